package router_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadsGoToTheStandbyAndWritesToThePrimary(t *testing.T) {
	f := serve(t)
	c := f.client()
	var port int
	require.NoError(t, c.QueryRow(ctx(t), "SELECT inet_server_port()").Scan(&port))
	require.Equal(t, f.standby.port, port)
	_, err := c.Exec(ctx(t), "CREATE TABLE IF NOT EXISTS basic (id int, port int DEFAULT inet_server_port())")
	require.NoError(t, err)
	require.NoError(t, c.QueryRow(ctx(t), "INSERT INTO basic VALUES (1) RETURNING port").Scan(&port))
	require.Equal(t, f.primary.port, port)
	var n int
	require.NoError(t, c.QueryRow(ctx(t), "SELECT count(*) FROM basic").Scan(&n))
	require.Equal(t, 1, n)
	_, err = c.Exec(ctx(t), "DROP TABLE basic")
	require.NoError(t, err)
}
