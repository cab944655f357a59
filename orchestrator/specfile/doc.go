// Package specfile reads and writes specs as text: the YAML file that an operator writes (JSON is YAML too), the
// commented file that `config generate` prints, and single keys by their dotted path for `config set` and `config show`.
//
// Level: pure, above orchestrator/cluster. It knows the syntax; what a spec means, its ranges and its defaults come from
// package cluster, and the comments are made from them.
//
// It reads from the io.Reader it is given and opens nothing.
package specfile
