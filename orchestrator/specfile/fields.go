package specfile

import (
	"reflect"
	"slices"
	"strings"
)

// fieldNames are the keys of a struct of the spec, in order.
func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		names = append(names, name)
	}
	return names
}

// fieldOf finds the field of a struct by its key.
func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	i := slices.Index(fieldNames(v.Type()), key)
	if i < 0 || key == "" {
		return reflect.Value{}, false
	}
	return v.Field(i), true
}

// suggest names the known keys that are near to an unknown one, to be appended to a message.
func suggest(key string, known []string) string {
	type near struct {
		name string
		cost int
	}
	var nears []near
	for _, k := range known {
		cost := distance(key, k)
		switch {
		case strings.HasSuffix(k, "."+key):
			cost = 0
		case strings.HasPrefix(k, key) || strings.Contains(k, key) && len(key) >= 4:
			cost = min(cost, 1)
		}
		if cost <= max(1, len(key)/3) {
			nears = append(nears, near{k, cost})
		}
	}
	if len(nears) == 0 {
		if len(known) > 12 {
			return ""
		}
		return "; the keys here are " + strings.Join(known, ", ")
	}
	slices.SortStableFunc(nears, func(a, b near) int { return a.cost - b.cost })
	var names []string
	for _, n := range nears[:min(len(nears), 5)] {
		if n.cost <= nears[0].cost+1 {
			names = append(names, n.name)
		}
	}
	return "; did you mean " + strings.Join(names, ", ") + "?"
}

// distance is the Levenshtein distance of two short strings.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
