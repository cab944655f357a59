package sql

import _ "embed"

// StatementFunctions reads the volatility of a database's functions and operators; each line makes one statement.Row.
//
//go:embed statement/functions.sql
var StatementFunctions string
