package statement

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAHitAllocatesNothing(t *testing.T) {
	c := NewCache(1 << 20)
	text := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;")
	same := []byte("UPDATE t SET a = $1 WHERE id = $2")
	c.Analyze(text)
	c.Analyze(same)
	n := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		n++
		text[len(text)-2] = byte('0' + n%10)
		if c.Analyze(text).Err != nil || c.Analyze(same).Err != nil {
			panic("not analysed")
		}
	}))
}

func TestTextsThatDifferInConstantsShareOneInfo(t *testing.T) {
	c := NewCache(1 << 20)
	one := c.AnalyzeString("SELECT a FROM t WHERE id = 1 /* request 17 */")
	require.Same(t, one, c.AnalyzeString("SELECT a FROM t WHERE id = 2 /* request 18 */"))
	require.NotSame(t, one, c.AnalyzeString("SELECT a FROM t WHERE id = '2' /* request 18 */"))
	require.NotSame(t, one, c.AnalyzeString("/* route: primary */ SELECT a FROM t WHERE id = 2 "))
	require.NotSame(t, c.AnalyzeString("SET a.b = 1"), c.AnalyzeString("SET a.b = 2"))
	require.NotSame(t, c.AnalyzeString("SELECT set_config('a.b', '1', true)"), c.AnalyzeString("SELECT set_config('a.b', '2', true)"))
}

func TestATextThatLooksLikeAKeyIsNotTakenForOne(t *testing.T) {
	c := NewCache(1 << 20)
	require.Error(t, c.AnalyzeString("SELECT \x01").Err)
	require.NoError(t, c.AnalyzeString("SELECT 1").Err)
}

func TestTheCallersBytesAreNotKept(t *testing.T) {
	c := NewCache(1 << 20)
	text := []byte("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE")
	i := c.Analyze(text)
	for k := range text {
		text[k] = 'x'
	}
	require.Equal(t, "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", i.Statements[0].SetSQL)
	require.Same(t, i, c.AnalyzeString("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE"))
}

// bytes adds up what the cache holds by its own estimate.
func (c *Cache) bytes() (n, texts int) {
	for k := range 2 * shards {
		s := &c.exact[k%shards]
		if k >= shards {
			s = &c.normal[k%shards]
		}
		for _, m := range []map[string]*Info{s.young, s.old} {
			for key, i := range m {
				n += len(key) + infoBytes + i.size()
				texts++
			}
		}
	}
	return n, texts
}

func TestTheCacheIsBounded(t *testing.T) {
	const limit = 1 << 20
	c := NewCache(limit)
	for i := range 20_000 {
		c.AnalyzeString(fmt.Sprintf("SET a.b%d = '%s'", i, strings.Repeat("x", i%100)))
	}
	n, texts := c.bytes()
	require.LessOrEqual(t, n, limit)
	require.Greater(t, texts, 100)

	long := "SELECT '" + strings.Repeat("x", maxCached) + "'"
	first := c.AnalyzeString(long)
	require.NotSame(t, first, c.AnalyzeString(long), "long texts are not remembered")
	_, after := c.bytes()
	require.Equal(t, texts, after)
}

func TestTheEstimateOfMemoryIsHonest(t *testing.T) {
	var before, after runtime.MemStats
	c := NewCache(64 << 20)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 5000 {
		c.AnalyzeString(fmt.Sprintf("SELECT f%d(a), lower(b), g(c) FROM t%d JOIN u ON a = %d WHERE x IN (SELECT y FROM z%d)", i, i, i, i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	estimate, texts := c.bytes()
	require.Equal(t, 5000, texts)
	require.Less(t, int(after.HeapAlloc)-int(before.HeapAlloc), estimate*3/2)
	runtime.KeepAlive(c)
}

func TestWhatIsUsedStays(t *testing.T) {
	c := NewCache(256 << 10)
	hot := c.AnalyzeString("SELECT hot")
	for i := range 3000 {
		c.AnalyzeString(fmt.Sprintf("SELECT cold%d", i))
		require.Same(t, hot, c.AnalyzeString("SELECT hot"))
	}
}

func TestManyMayAskAtOnce(t *testing.T) {
	c := NewCache(64 << 10)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			buf := make([]byte, 0, 100)
			for i := range 500 {
				buf = fmt.Appendf(buf[:0], "SELECT c%d FROM t WHERE id = %d", (i*g)%50, i)
				if ok, why := c.Analyze(buf).Read(nil); !ok {
					t.Errorf("%s: %s", buf, why)
				}
			}
		})
	}
	wg.Wait()
}
