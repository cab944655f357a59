// Package sql holds every SQL text that is longer than a line, as embedded files with an accessor each.
//
// Level: leaf; it imports nothing of the project.
//
// Duties: one folder per part (cluster: what the agent prepares on a group's primary; others by the name of the
// package that runs them). Values never go into the texts: they are passed as parameters, or as settings of the
// transaction where PostgreSQL allows no parameters.
//
// It never runs a statement.
package sql
