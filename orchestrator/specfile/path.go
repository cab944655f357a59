package specfile

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// ErrUnknownKey is wrapped by the errors about keys that a spec does not have.
var ErrUnknownKey = errors.New("unknown key")

// Set gives one key another value, and returns the completed spec. The path is dotted as in the file
// ("router.reads.max_lag", "postgresql.parameters.work_mem", "router.reads.overrides.coordinator-2.weight"). An empty
// value removes the key, so that its default holds again. What identifies the data cannot be changed, and hosts and
// groups have commands of their own.
func Set(s cluster.Spec, path, value string) (cluster.Spec, error) {
	switch top, _, _ := strings.Cut(strings.ReplaceAll(path, "[", "."), "."); top {
	case "hosts":
		return cluster.Spec{}, errors.New("hosts cannot be set; use `orchestrator nodes add` and `nodes rm`")
	case "groups":
		return cluster.Spec{}, errors.New("groups cannot be set; use `orchestrator group add-standby` and `group rm-standby`, or `nodes add` for new groups")
	}
	next := s.Clone()
	if err := set(reflect.ValueOf(&next).Elem(), path, path, value); err != nil {
		return cluster.Spec{}, err
	}
	full, err := next.Complete()
	if err == nil {
		err = s.CheckChange(full)
	}
	if err != nil {
		return cluster.Spec{}, refused(path, err)
	}
	return full, nil
}

// refused says which key could not be set, once.
func refused(path string, err error) error {
	if ps := cluster.ProblemsOf(err); len(ps) == 1 && strings.HasPrefix(ps[0].Path, path) {
		return fmt.Errorf("set %w", ps[0])
	}
	return fmt.Errorf("set %s: %w", path, err)
}

// Get gives the value of one key as text: single values as they are, everything else as YAML. A key that exists but has
// no value is the empty string.
func Get(s cluster.Spec, path string) (string, error) {
	v, err := get(reflect.ValueOf(&s).Elem(), path, path)
	if err != nil || !v.IsValid() || (v.Kind() == reflect.Pointer && v.IsNil()) {
		return "", err
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice:
		if v.IsZero() {
			return "", nil
		}
		text, err := yaml.Marshal(v.Interface())
		if err != nil {
			return "", fmt.Errorf("write %s: %w", path, err)
		}
		return string(text), nil
	case reflect.String:
		return v.String(), nil
	default:
		return fmt.Sprint(v.Interface()), nil
	}
}

// step splits the first part off a path within v. Names of parameters have dots, so what follows a map of strings is
// one key.
func step(v reflect.Value, rest string) (key, after string) {
	if v.Kind() == reflect.Map && v.Type().Elem().Kind() == reflect.String {
		return rest, ""
	}
	key, after, _ = strings.Cut(rest, ".")
	return key, after
}

func get(v reflect.Value, path, rest string) (reflect.Value, error) {
	if rest == "" {
		return v, nil
	}
	key, after := step(v, rest)
	switch v.Kind() {
	case reflect.Struct:
		if f, ok := fieldOf(v, key); ok {
			return get(f, path, after)
		}
	case reflect.Map:
		e := v.MapIndex(reflect.ValueOf(key))
		if !e.IsValid() {
			e = reflect.Zero(v.Type().Elem())
		}
		return get(e, path, after)
	}
	return reflect.Value{}, unknownKey(path)
}

func set(v reflect.Value, path, rest, value string) error {
	if rest == "" {
		return assign(v, path, value)
	}
	key, after := step(v, rest)
	switch v.Kind() {
	case reflect.Struct:
		if f, ok := fieldOf(v, key); ok {
			return set(f, path, after, value)
		}
	case reflect.Map:
		e := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(reflect.ValueOf(key)); old.IsValid() {
			e.Set(old)
		}
		if err := set(e, path, after, value); err != nil {
			return err
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		if e.IsZero() {
			v.SetMapIndex(reflect.ValueOf(key), reflect.Value{})
		} else {
			v.SetMapIndex(reflect.ValueOf(key), e)
		}
		return nil
	}
	return unknownKey(path)
}

// assign sets a single value, or a list of strings from YAML or from lines.
func assign(v reflect.Value, path, value string) error {
	if value == "" {
		v.SetZero()
		return nil
	}
	if v.Kind() == reflect.Pointer {
		p := reflect.New(v.Type().Elem())
		if err := assign(p.Elem(), path, value); err != nil {
			return err
		}
		v.Set(p)
		return nil
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := text.UnmarshalText([]byte(value)); err != nil {
			return fmt.Errorf("set %s: %w", path, err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Slice:
		var list []string
		if yaml.Unmarshal([]byte(value), &list) != nil {
			list = strings.Split(strings.TrimSpace(value), "\n")
		}
		v.Set(reflect.ValueOf(list))
	case reflect.Struct, reflect.Map:
		return fmt.Errorf("set %s: it has keys of its own; set one of them%s", path, inside(path))
	default:
		if msg := setScalar(v, value); msg != "" {
			return fmt.Errorf("set %s: %s", path, msg)
		}
	}
	return nil
}

// inside lists the keys under a path.
func inside(path string) string {
	var keys []string
	for _, k := range settable() {
		if strings.HasPrefix(k, path+".") {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return ", " + path + ".NAME=VALUE"
	}
	return ": " + strings.Join(keys, ", ")
}

// settable are the paths that Set knows, without those below maps.
func settable() []string {
	var paths []string
	for _, k := range Keys() {
		if !strings.HasPrefix(k.Path, "hosts") && !strings.HasPrefix(k.Path, "groups") && !strings.Contains(k.Path, "*") {
			paths = append(paths, k.Path)
		}
	}
	return paths
}

func unknownKey(path string) error {
	return fmt.Errorf("%w %q%s", ErrUnknownKey, path, suggest(path, settable()))
}
