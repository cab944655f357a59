package router_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What a function, a procedure or a text that is not understood sets does not reach the next client.
func TestSettingsMadeOutOfSightDoNotLeak(t *testing.T) {
	f := serve(t, one)
	a, b := f.raw(), f.raw()
	a.query("drop function if exists setter(); drop procedure if exists csetter()")
	a.query("create function setter() returns text language sql volatile as $$select set_config('app.tenant', 'a', false)$$")
	a.query("create procedure csetter() language plpgsql as $$begin perform set_config('app.tenant', 'a', false); end$$")
	tenant := func() string {
		return b.query("/* route: primary */ select coalesce(nullif(current_setting('app.tenant', true), ''), 'none')")[0]
	}
	for _, texts := range [][]string{{"select setter()"}, {"call csetter()"}, {"begin", "select setter()", "select 1", "commit"}} {
		for _, q := range texts {
			require.NotEqual(t, "E", a.query(q)[0][:1], q)
		}
		require.Equal(t, "D:none", tenant(), "%v", texts)
		require.Equal(t, []string{"C:SET", "ZI"}, b.query("set work_mem = '1MB'"))
	}
}
