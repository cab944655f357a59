package specfile

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// MaxSize is the largest spec that is read, in bytes.
const MaxSize = 1 << 20

// Error is one thing that is wrong with a file.
type Error struct {
	File string
	// Line counts from 1; 0 if the problem has no place in the file.
	Line int
	// Path is the place in the spec, empty for errors of syntax.
	Path    string
	Message string
}

// Error gives "cluster.yaml:7: groups[0].id: message".
func (e *Error) Error() string {
	at := e.File
	if e.Line > 0 {
		at += ":" + strconv.Itoa(e.Line)
	}
	if e.Path != "" {
		at += ": " + e.Path
	}
	return at + ": " + e.Message
}

// Decode reads one spec in YAML or JSON; name stands for the file in messages. Keys that do not exist, values of another
// type, keys given twice, aliases and a second document are refused, and so is what Spec.Validate refuses. All problems
// are reported at once as joined Errors, each with its line. The spec is returned as written: Complete has yet to be called.
func Decode(r io.Reader, name string) (cluster.Spec, error) {
	root, err := parse(r, name)
	if err != nil {
		return cluster.Spec{}, err
	}
	d := &decoder{file: name, lines: map[string]int{}}
	var spec cluster.Spec
	d.into(reflect.ValueOf(&spec).Elem(), root, "")
	if len(d.errs) > 0 {
		return cluster.Spec{}, errors.Join(d.errs...)
	}
	for _, p := range cluster.ProblemsOf(spec.Validate()) {
		d.errs = append(d.errs, &Error{name, d.lineOf(p.Path), p.Path, p.Message})
	}
	if len(d.errs) > 0 {
		return cluster.Spec{}, errors.Join(d.errs...)
	}
	return spec, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// parse reads the syntax of the one document.
func parse(r io.Reader, name string) (*yaml.Node, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > MaxSize {
		return nil, &Error{File: name, Message: fmt.Sprintf("is larger than %s", cluster.Bytes(MaxSize))}
	}
	syntax := func(err error) error {
		m := yamlLine.FindStringSubmatch(err.Error())
		if m == nil {
			return &Error{File: name, Message: "is not YAML: " + err.Error()}
		}
		line, _ := strconv.Atoi(m[1])
		return &Error{File: name, Line: line, Message: "is not YAML: " + m[2]}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var first, second yaml.Node
	err = dec.Decode(&first)
	if errors.Is(err, io.EOF) || (err == nil && isNull(first.Content[0])) {
		return nil, &Error{File: name, Message: "is empty; `orchestrator config generate` prints a spec to begin with"}
	}
	if err != nil {
		return nil, syntax(err)
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return first.Content[0], nil
	case err != nil:
		return nil, syntax(err)
	default:
		return nil, &Error{File: name, Line: second.Line, Message: "a second document begins here; a spec is one document"}
	}
}

// decoder fills values from nodes and collects what does not fit.
type decoder struct {
	file  string
	errs  []error
	lines map[string]int
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.errs = append(d.errs, &Error{d.file, n.Line, path, fmt.Sprintf(format, args...)})
}

// lineOf is the line of a path, or of the nearest thing around it.
func (d *decoder) lineOf(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

// into sets v from n. Only the kinds of values that a Spec has are known.
func (d *decoder) into(v reflect.Value, n *yaml.Node, path string) {
	if path != "" {
		d.lines[path] = n.Line
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.fail(n, path, "anchors and aliases are not supported; write the value out")
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fail(n, path, "the tag %s is not supported", n.Tag)
		return
	}
	text, isText := v.Addr().Interface().(encoding.TextUnmarshaler)
	switch kind := v.Kind(); {
	case isText:
		if d.is(n, path, yaml.ScalarNode) {
			if err := text.UnmarshalText([]byte(n.Value)); err != nil {
				d.fail(n, path, "%v", err)
			}
		}
	case isNull(n) && (kind == reflect.Struct || kind == reflect.Map || kind == reflect.Slice || kind == reflect.Pointer):
	case kind == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.into(v.Elem(), n, path)
	case kind == reflect.Struct:
		d.structure(v, n, path)
	case kind == reflect.Map:
		d.mapping(v, n, path)
	case kind == reflect.Slice:
		d.sequence(v, n, path)
	default:
		d.scalar(v, n, path)
	}
}

// is reports a node that is not of the kind that the spec has in this place.
func (d *decoder) is(n *yaml.Node, path string, want yaml.Kind) bool {
	words := map[yaml.Kind]string{yaml.ScalarNode: "a single value", yaml.MappingNode: "a mapping (KEY: VALUE lines)", yaml.SequenceNode: "a list"}
	switch {
	case isNull(n) && want == yaml.ScalarNode:
		d.fail(n, path, "has no value; remove the line or give one")
	case n.Kind != want:
		d.fail(n, path, "is %s, but must be %s", words[n.Kind], words[want])
	default:
		return true
	}
	return false
}

func (d *decoder) structure(v reflect.Value, n *yaml.Node, path string) {
	if !d.is(n, path, yaml.MappingNode) {
		return
	}
	d.pairs(n, path, func(key string, k, value *yaml.Node) {
		field, ok := fieldOf(v, key)
		if !ok {
			d.fail(k, path, "unknown key %q%s", key, suggest(key, fieldNames(v.Type())))
			return
		}
		d.into(field, value, join(path, key))
	})
}

func (d *decoder) mapping(v reflect.Value, n *yaml.Node, path string) {
	if !d.is(n, path, yaml.MappingNode) {
		return
	}
	m := reflect.MakeMap(v.Type())
	d.pairs(n, path, func(key string, _, value *yaml.Node) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.into(e, value, join(path, key))
		m.SetMapIndex(reflect.ValueOf(key), e)
	})
	v.Set(m)
}

// pairs visits the keys of a mapping once each.
func (d *decoder) pairs(n *yaml.Node, path string, visit func(key string, k, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, value := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.fail(k, path, "a key must be a single word")
			continue
		}
		if line, ok := seen[k.Value]; ok {
			d.fail(k, join(path, k.Value), "is given already in line %d", line)
			continue
		}
		seen[k.Value] = k.Line
		visit(k.Value, k, value)
	}
}

func (d *decoder) sequence(v reflect.Value, n *yaml.Node, path string) {
	if !d.is(n, path, yaml.SequenceNode) {
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, e := range n.Content {
		d.into(s.Index(i), e, fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(s)
}

func (d *decoder) scalar(v reflect.Value, n *yaml.Node, path string) {
	if !d.is(n, path, yaml.ScalarNode) {
		return
	}
	if msg := setScalar(v, n.Value); msg != "" {
		d.fail(n, path, "%s", msg)
	}
}

// setScalar sets a string, number or bool from its text. Strings are taken as they are written: 0123 stays 0123.
func setScalar(v reflect.Value, text string) string {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		k, err := strconv.Atoi(text)
		if err != nil || strconv.Itoa(k) != text {
			return fmt.Sprintf("%q is not a whole number", text)
		}
		v.SetInt(int64(k))
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Sprintf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	default:
		panic("specfile: a spec has no values of type " + v.Type().String())
	}
	return ""
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
