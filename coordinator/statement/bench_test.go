package statement_test

import (
	"testing"

	"github.com/multicoord/multicoord/coordinator/statement"
)

const point = "SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;"

func BenchmarkAnalyzePointQuery(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		statement.Analyze(point)
	}
}

func BenchmarkCacheHitOnNewConstant(b *testing.B) {
	c := statement.NewCache(1 << 20)
	text := []byte(point)
	c.Analyze(text)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		text[len(text)-2] = byte('0' + i%10)
		if c.Analyze(text).Err != nil {
			b.Fatal("not analysed")
		}
	}
}

func BenchmarkCacheHitOnSameText(b *testing.B) {
	c := statement.NewCache(1 << 20)
	text := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = $1")
	c.Analyze(text)
	b.ReportAllocs()
	for b.Loop() {
		if c.Analyze(text).Err != nil {
			b.Fatal("not analysed")
		}
	}
}

func BenchmarkReadWithCatalog(b *testing.B) {
	i := statement.Analyze(point)
	cat := statement.NewCatalog([]statement.Row{{Schema: "pg_catalog", Name: "=", Operator: true}})
	b.ReportAllocs()
	for b.Loop() {
		if ok, why := i.Read(cat); !ok {
			b.Fatal(why)
		}
	}
}
