// Package importtest keeps the imports of the module going one way (docs/architecture.md):
//
//	wiring    cmd, testenv              may import everything; nobody imports them
//	services  orchestrator, agent, …    may import core, leaf, and the adapters listed for them
//	adapters  etcdstore, physical, …    may import core and leaf, and other adapters only where listed
//	core      failover, route, …        decides; may import orchestrator/cluster, and other core where listed
//	leaf      orchestrator/cluster, sql imports nothing of ours
//
// Level: wiring; it looks at the source through `go list` and imports nothing of the module.
//
// The table (table.go) names every package. A package that is not in it fails the test, so that somebody
// decides where it stands when it is made. Tests may import what they like: only the imports of the shipped
// code count.
package importtest

import (
	"fmt"
	"slices"
	"strings"
)

// Level is where a package stands.
type Level string

// The levels, lowest first.
const (
	Leaf    Level = "leaf"
	Core    Level = "core"
	Adapter Level = "adapter"
	Service Level = "service"
	Wiring  Level = "wiring"
)

// allowed tells which levels a package of a level may import without being listed.
var allowed = map[Level][]Level{
	Leaf:    nil,
	Core:    nil, // orchestrator/cluster only, see Check
	Adapter: {Leaf, Core},
	Service: {Leaf, Core},
	Wiring:  {Leaf, Core, Adapter, Service, Wiring},
}

// vocabulary is the one package that core may import without being listed.
const vocabulary = "orchestrator/cluster"

// Rule is a package's line in the table.
type Rule struct {
	Level Level
	// Also lists packages of the module (paths without the module's name) that may be imported beyond what the
	// level allows.
	Also []string
}

// External says which packages of the module may import a package of someone else's.
type External struct {
	// Path is an import path; it stands for everything below it too.
	Path string
	// By lists packages of the module; each stands for everything below it too.
	By []string
	// Why is part of the message when somebody else imports it.
	Why string
}

// Package is one package of the module with what it imports, as `go list` gives them.
type Package struct {
	ImportPath string
	Imports    []string
}

// Check compares packages with the table and returns a message for every import that goes the wrong way and
// every package that the table does not know.
func Check(module string, packages []Package, table map[string]Rule, externals []External) []string {
	var wrong []string
	for _, p := range packages {
		name := within(module, p.ImportPath)
		rule, ok := ruleOf(table, name)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s is not in the table of testenv/importtest: add it with its level", name))
			continue
		}
		for _, path := range p.Imports {
			if msg := check(module, name, rule, path, table, externals); msg != "" {
				wrong = append(wrong, msg)
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

func check(module, name string, rule Rule, path string, table map[string]Rule, externals []External) string {
	if path != module && !strings.HasPrefix(path, module+"/") {
		return checkExternal(name, rule, path, externals)
	}
	imported := within(module, path)
	target, ok := ruleOf(table, imported)
	switch {
	case !ok, slices.Contains(rule.Also, imported), rule.Level == Core && imported == vocabulary:
		return "" // an unknown package is reported once, for itself
	case slices.Contains(allowed[rule.Level], target.Level):
		return ""
	}
	return fmt.Sprintf("%s (%s) imports %s (%s): %s", name, rule.Level, imported, target.Level, advice(rule.Level))
}

func checkExternal(name string, rule Rule, path string, externals []External) string {
	if rule.Level == Leaf && !standard(path) {
		return fmt.Sprintf("%s (leaf) imports %s: a leaf imports the standard library only", name, path)
	}
	for _, e := range externals {
		if path != e.Path && !strings.HasPrefix(path, e.Path+"/") {
			continue
		}
		for _, by := range e.By {
			if name == by || strings.HasPrefix(name, by+"/") {
				return ""
			}
		}
		return fmt.Sprintf("%s (%s) imports %s, which is for %s alone: %s", name, rule.Level, path, strings.Join(e.By, ", "), e.Why)
	}
	return ""
}

func advice(l Level) string {
	switch l {
	case Leaf:
		return "a leaf imports the standard library only"
	case Core:
		return "core decides on values of " + vocabulary + " alone; take the value as a parameter"
	case Adapter:
		return "adapters do not know each other or what stands above them; let cmd bring them together"
	default:
		return "a service declares an interface of its own for what it needs; cmd passes the implementation in"
	}
}

// ruleOf finds a package's rule. Wiring stands for everything below it.
func ruleOf(table map[string]Rule, name string) (Rule, bool) {
	if r, ok := table[name]; ok {
		return r, true
	}
	for prefix, r := range table {
		if r.Level == Wiring && strings.HasPrefix(name, prefix+"/") {
			return r, true
		}
	}
	return Rule{}, false
}

// within cuts the module's name off an import path.
func within(module, path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

// standard tells packages of the standard library by the missing dot in the first element, as the go command
// does.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}
