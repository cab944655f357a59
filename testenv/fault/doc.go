// Package fault breaks things on purpose: it kills and freezes processes, and stands between a client and a
// server to delay, cut or half-open their connection.
//
// Level: wiring, for tests only.
//
// Processes are named by pid alone. Nothing here looks for processes by name, so that nothing is hit that the
// test did not start.
package fault
