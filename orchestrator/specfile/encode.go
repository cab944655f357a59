package specfile

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Encode writes the spec as YAML in which every key is explained, with its range and default; keys without a value are
// there as comments. Decode reads it back to the same spec.
func Encode(w io.Writer, s cluster.Spec) error {
	e := &encoder{keys: map[string]Key{}}
	for _, k := range Keys() {
		e.keys[k.Path] = k
	}
	e.line(0, "# Spec of a multicoord cluster. Durations have a unit (ms, s, m, h), sizes too (kB, MB, GB, TB; powers of 1024).")
	e.structure(reflect.ValueOf(s), 0, "", true)
	if _, err := io.WriteString(w, e.out.String()); err != nil {
		return fmt.Errorf("write spec: %w", err)
	}
	return nil
}

type encoder struct {
	keys map[string]Key
	out  strings.Builder
}

func (e *encoder) line(indent int, text string) {
	e.out.WriteString(strings.TrimRight(strings.Repeat("  ", indent)+text, " ") + "\n")
}

// structure writes the fields of a struct; path is generic (with [] and *). Elements of lists after the first are not
// explained again.
func (e *encoder) structure(v reflect.Value, indent int, path string, explain bool) {
	for i, name := range fieldNames(v.Type()) {
		f, key := v.Field(i), e.keys[join(path, name)]
		missing := f.IsZero() && optional(v.Type().Field(i))
		if missing && !explain {
			continue
		}
		if explain {
			if indent == 0 {
				e.line(0, "")
			}
			e.comment(indent, key)
		}
		if missing {
			e.line(indent, strings.TrimRight("# "+name+": "+key.exampleValue(), " "))
			continue
		}
		e.value(f, indent, join(path, name), name+":", explain)
	}
}

// optional tells whether a field is left out when it is empty.
func optional(f reflect.StructField) bool { return strings.Contains(f.Tag.Get("yaml"), ",omitempty") }

func (k Key) exampleValue() string {
	if k.example != "" {
		return k.example
	}
	return k.Default
}

// value writes "head value" at the given indentation.
func (e *encoder) value(v reflect.Value, indent int, path, head string, explain bool) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	_, isText := v.Interface().(encoding.TextMarshaler)
	switch {
	case isText:
		e.line(indent, head+" "+scalar(v))
	case v.Kind() == reflect.Struct:
		e.line(indent, head)
		e.structure(v, indent+1, path, explain)
	case v.Kind() == reflect.Map && v.Len() > 0:
		e.line(indent, head)
		for i, k := range sortedKeys(v) {
			e.entry(v.MapIndex(reflect.ValueOf(k)), indent+1, path+".*", quote(k)+":", explain && i == 0)
		}
	case v.Kind() == reflect.Slice && v.Len() > 0:
		e.line(indent, head)
		for i := range v.Len() {
			e.element(v.Index(i), indent+1, path+"[]", explain && i == 0)
		}
	case v.Kind() == reflect.Map:
		e.line(indent, head+" {}")
	case v.Kind() == reflect.Slice:
		e.line(indent, head+" []")
	default:
		e.line(indent, head+" "+scalar(v))
	}
}

// entry writes one value of a map.
func (e *encoder) entry(v reflect.Value, indent int, path, head string, explain bool) {
	if v.Kind() == reflect.Struct && v.IsZero() && !explain {
		e.line(indent, head+" {}")
		return
	}
	e.value(v, indent, path, head, explain)
}

// element writes one element of a list: its lines are written as those of a struct, and the dash is put in front of
// the first one that is not a comment.
func (e *encoder) element(v reflect.Value, indent int, path string, explain bool) {
	if v.Kind() != reflect.Struct {
		e.line(indent, "- "+scalar(v))
		return
	}
	inner := &encoder{keys: e.keys}
	inner.structure(v, indent+1, path, explain)
	dashed := false
	for text := range strings.SplitAfterSeq(inner.out.String(), "\n") {
		if trimmed := strings.TrimLeft(text, " "); !dashed && trimmed != "" && trimmed[0] != '#' {
			text, dashed = strings.Repeat("  ", indent)+"- "+trimmed, true
		}
		e.out.WriteString(text)
	}
}

// comment writes what is known of a key, in lines of about 110 columns.
func (e *encoder) comment(indent int, k Key) {
	text := k.Doc
	switch {
	case k.Range != "" && k.Default != "":
		text += fmt.Sprintf(" (%s; default %s)", k.Range, k.Default)
	case k.Range != "":
		text += fmt.Sprintf(" (%s)", k.Range)
	case k.Default != "":
		text += fmt.Sprintf(" (default %s)", k.Default)
	}
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > 110-2*indent {
			e.line(indent, line)
			line = "#"
		}
		line += " " + word
	}
	e.line(indent, line)
}

func sortedKeys(m reflect.Value) []string {
	var keys []string
	for _, k := range m.MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	return keys
}

// scalar is the YAML text of a single value.
func scalar(v reflect.Value) string {
	if t, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := t.MarshalText()
		if err != nil {
			panic("specfile: " + err.Error()) // durations and sizes always have a text
		}
		return quote(string(text))
	}
	switch v.Kind() {
	case reflect.String:
		return quote(v.String())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	default:
		panic("specfile: a spec has no values of type " + v.Type().String())
	}
}

// quote writes a string so that YAML reads it back as this string on one line.
func quote(s string) string {
	text, err := yaml.Marshal(s)
	if line := strings.TrimSuffix(string(text), "\n"); err == nil && !strings.Contains(line, "\n") {
		return line
	}
	return strconv.Quote(s)
}
