package specfile_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multicoord/multicoord/orchestrator/specfile"
)

var updateDocs = flag.Bool("update-docs", false, "write the table of keys into docs/configuration.md")

const (
	tableBegins = "<!-- keys -->\n"
	tableEnds   = "<!-- /keys -->\n"
)

// keysTable is the table of docs/configuration.md.
func keysTable() string {
	cell := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	escape := strings.NewReplacer("|", `\|`, "<", "&lt;").Replace
	var b strings.Builder
	b.WriteString("| key | what for | range | default |\n|---|---|---|---|\n")
	for _, k := range specfile.Keys() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Path, escape(k.Doc), escape(k.Range), cell(k.Default))
	}
	return b.String()
}

func TestTheDocumentListsEveryKeyWithItsRangeAndDefault(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), tableBegins)
	have, after, closed := strings.Cut(rest, tableEnds)
	if !ok || !closed {
		t.Fatalf("%s has no table between %q and %q", path, tableBegins, tableEnds)
	}
	want := keysTable()
	if *updateDocs {
		if err := os.WriteFile(path, []byte(before+tableBegins+want+tableEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("%s is out of date; run go test ./orchestrator/specfile -run EveryKey -update-docs (-want +have):\n%s", path, d)
	}
}

var markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	root := filepath.Join("..", "..")
	files := []string{filepath.Join(root, "README.md")}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		more, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range markdownLink.FindAllStringSubmatch(string(raw), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			to := file
			if target != "" {
				to = filepath.Join(filepath.Dir(file), target)
			}
			text, err := os.ReadFile(to)
			if err != nil {
				if st, e := os.Stat(to); e == nil && st.IsDir() && anchor == "" {
					continue
				}
				t.Errorf("%s links to %s, which is not there", file, m[1])
				continue
			}
			if anchor != "" && !strings.Contains(anchors(string(text)), "\n"+anchor+"\n") {
				t.Errorf("%s links to %s, but %s has no such heading", file, m[1], to)
			}
		}
	}
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors are the names that headings have in links, one a line, as GitHub makes them.
func anchors(text string) string {
	out := "\n"
	code := false
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if title := strings.TrimLeft(line, "#"); !code && title != line && strings.HasPrefix(title, " ") {
			name := notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			out += strings.ReplaceAll(name, " ", "-") + "\n"
		}
	}
	return out
}
