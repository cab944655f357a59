// Package console shows a router to people and to monitoring: the admin console, which speaks the PostgreSQL
// protocol on a port of its own as pgbouncer's and SPQR's do, and pgrouter's plain-text monitor.
//
// Level: service, above coordinator/wire. It shows what its Source gives (the agreed state and plain values of the
// router) and changes nothing but what Config.Reload does.
//
//	SHOW nodes | groups | servers | lag | pools | clients | stats | routers | config | version | help
//	SHOW route '<statement>'      where a statement would go, and why
//	RELOAD
//
// A session is: start-up, SCRAM, then commands, simple or extended, until the client goes, ctx ends, or it breaks the
// protocol. There is no SQL here: what is not a command of the console is refused, except for what drivers send on
// their own (SET of their usual settings, BEGIN, COMMIT, DISCARD ALL and the like), which does nothing.
//
// It never reads a statement's data, never shows a password, and never lets anyone in without one. A client that
// misbehaves loses its own connection and nothing else.
package console
