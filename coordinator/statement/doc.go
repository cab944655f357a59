// Package statement decides what a client's text is: which statements it holds, whether it is surely a read,
// what it does to the session, and how a SET can be carried to another server connection.
//
// Level: pure core. It takes text and returns values; it knows no servers, no connections and no clock.
//
// Everything is decided from the parse tree of PostgreSQL's own grammar (pg_query_go, PostgreSQL 17), never from
// the first word. What cannot be decided is not a read: the primary answers it, as PostgreSQL would have.
//
// # What a caller has to do
//
//  1. [Cache.Analyze] each text; a hit costs less than a parse by two orders of magnitude. The *Info is shared and
//     must not be changed.
//  2. [Info.Read] with the database's [Catalog] tells whether the whole text may be sent to a standby.
//  3. After a text has succeeded on its server: honour [Info.Pin] and [Info.PinIfAccepted] (keep the server
//     connection), Unpin, and record the Settings of its statements, undoing them when the transaction rolls back.
//  4. While a setting for which [Setting.PrimaryOnly] holds is in force, send everything to the primary: the text
//     may mean something else to the server than it meant to the grammar here, or no standby would run it.
//
// # What it never does
//
// It never invents a syntax error: a text that does not parse yields an Info whose Err says why, and goes to the
// primary as it is (a newer server may know the syntax). It never panics and never overflows a stack, whatever the
// text: the parser is C code that recurses without a limit, so the possible depth is bounded by a scan of the
// tokens first (see bound.go).
//
// # What can still go wrong, and why that is harmless
//
// A view, an operator class, a domain or a type's input function may hide a function that writes. A standby refuses
// each such write with SQLSTATE 25006, upon which the router runs the statement on the primary. A function that was
// changed from stable to volatile after the [Catalog] was read is caught in the same way.
package statement
