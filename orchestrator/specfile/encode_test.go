package specfile

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// normal makes empty and missing maps and lists equal: a file does not tell them apart.
func normal(s cluster.Spec) cluster.Spec {
	s = s.Clone()
	if len(s.PostgreSQL.Parameters) == 0 {
		s.PostgreSQL.Parameters = nil
	}
	if len(s.PostgreSQL.HBA) == 0 {
		s.PostgreSQL.HBA = nil
	}
	if len(s.Groups) == 0 {
		s.Groups = nil
	}
	for i := range s.Groups {
		if len(s.Groups[i].Nodes) == 0 {
			s.Groups[i].Nodes = nil
		}
	}
	if len(s.Router.Reads.Overrides) == 0 {
		s.Router.Reads.Overrides = nil
	}
	return s
}

func encode(t require.TestingT, s cluster.Spec) string {
	var b strings.Builder
	require.NoError(t, Encode(&b, s))
	return b.String()
}

func TestEncodedSpecsReadBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := cluster.DefaultSpec()
		text := rapid.StringMatching(`[ -~äöü€]{0,20}`)
		s.PostgreSQL.Parameters = map[string]string{}
		for _, name := range []string{"work_mem", "a.b", "search_path"} {
			if rapid.Bool().Draw(t, name) {
				s.PostgreSQL.Parameters[name] = text.Draw(t, "value")
			}
		}
		if rapid.Bool().Draw(t, "hba") {
			s.PostgreSQL.HBA = []string{"host all all all md5", `local "a b" all scram-sha-256 # x: y`}
		}
		s.Failover.TTL = cluster.Duration(rapid.Int64Range(int64(2*time.Second), int64(5*time.Minute)).Draw(t, "ttl"))
		s.Router.Reads.MaxLagBytes = cluster.Bytes(rapid.Int64Range(0, 1<<40).Draw(t, "bytes"))
		if rapid.Bool().Draw(t, "overrides") {
			s.Router.Reads.Overrides = map[string]cluster.ReadOverride{"coordinator-2": {Weight: rapid.IntRange(0, 5).Draw(t, "weight")}, "worker-1-1": {}}
		}
		if rapid.Bool().Draw(t, "completed") {
			full, err := s.Complete()
			require.NoError(t, err)
			s = full
		}
		written := encode(t, s)
		got, err := decode(written)
		require.NoError(t, err, "%s", written)
		require.Equal(t, normal(s), normal(got))
	})
}

func TestTheGeneratedFileExplainsEveryKey(t *testing.T) {
	one := 1
	s := cluster.DefaultSpec()
	s.PostgreSQL.Parameters = map[string]string{"work_mem": "16MB"}
	s.Placement = cluster.Placement{Policy: cluster.Cross, Repfactor: &one}
	s.Router.Reads.Overrides = map[string]cluster.ReadOverride{"coordinator-2": {Weight: 50}}
	s.Groups[0].Nodes = []cluster.Node{{Host: "local"}}
	text := strings.Join(strings.Fields(strings.ReplaceAll(encode(t, s), "#", "")), " ")
	for _, k := range Keys() {
		require.Contains(t, text, k.Doc, k.Path)
		name := k.Path[strings.LastIndex(k.Path, ".")+1:]
		require.Contains(t, text, name+":", "%s is shown, with its value or as a comment", k.Path)
	}
	require.Contains(t, text, "(2s to 5m; default 5s)")
	for line := range strings.SplitSeq(encode(t, s), "\n") {
		require.LessOrEqual(t, len(line), 120)
	}
}

// paths walks the types of a spec.
func paths(t reflect.Type, prefix string) []string {
	var all []string
	for i, name := range fieldNames(t) {
		path, f := join(prefix, name), t.Field(i).Type
		all = append(all, path)
		switch {
		case f.Kind() == reflect.Struct:
			all = append(all, paths(f, path)...)
		case f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Struct:
			all = append(all, paths(f.Elem(), path+"[]")...)
		case f.Kind() == reflect.Map && f.Elem().Kind() == reflect.Struct:
			all = append(all, paths(f.Elem(), path+".*")...)
		}
	}
	return all
}

func TestEveryKeyOfASpecIsDescribedAndNoOther(t *testing.T) {
	var described []string
	for _, k := range Keys() {
		described = append(described, k.Path)
		require.NotEmpty(t, k.Doc, k.Path)
	}
	require.Equal(t, paths(reflect.TypeFor[cluster.Spec](), ""), described, "in the order of the fields")
}

func TestEveryNumberIsLimited(t *testing.T) {
	var walk func(t reflect.Type, prefix string) []string
	walk = func(t reflect.Type, prefix string) (missing []string) {
		for i, name := range fieldNames(t) {
			f, path := t.Field(i).Type, join(prefix, name)
			for f.Kind() == reflect.Pointer || f.Kind() == reflect.Slice || f.Kind() == reflect.Map {
				path += map[reflect.Kind]string{reflect.Slice: "[]", reflect.Map: ".*"}[f.Kind()]
				f = f.Elem()
			}
			switch _, limited := cluster.LimitOf(path); {
			case f.Kind() == reflect.Struct:
				missing = append(missing, walk(f, path)...)
			case (f.Kind() == reflect.Int || f.Kind() == reflect.Int64) && !limited:
				missing = append(missing, path)
			}
		}
		return missing
	}
	require.Empty(t, walk(reflect.TypeFor[cluster.Spec](), ""))
}

func TestJSONAndYAMLUseTheSameKeys(t *testing.T) {
	var walk func(t reflect.Type)
	seen := 0
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			require.Equal(t, f.Tag.Get("json"), f.Tag.Get("yaml"), "%s.%s", typ, f.Name)
			seen++
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[cluster.Spec]())
	require.Greater(t, seen, 40)
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestEncodeReportsAFailedWrite(t *testing.T) {
	require.EqualError(t, Encode(fullDisk{}, cluster.DefaultSpec()), "write spec: disk full")
}
