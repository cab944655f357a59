package router

import (
	"context"
	"strings"

	"github.com/multicoord/multicoord/coordinator/route"
	"github.com/multicoord/multicoord/coordinator/statement"
	"github.com/multicoord/multicoord/orchestrator/cluster"
)

// Routed is where one text would go.
type Routed struct {
	// Statement is the text of one statement, Class its kind.
	Statement, Class string
	// Node and Address are the server's; empty when there is none for it now.
	Node, Address string
	Reason        string
}

// Explain tells where the statements of a text would go for a session with the default settings that has not written,
// in the database of the router's own connections. Several statements in one text go to one server. Nothing is sent.
func (r *Router) Explain(_ context.Context, sql string) ([]Routed, error) {
	info := statement.Analyze(sql)
	v := r.view.Load()
	d := r.catalogs.open(r.ownDatabase())
	defer r.catalogs.close(d)
	read, reason := info.Read(d.volatility())
	consistency := v.settings.Reads.Consistency
	switch info.Route {
	case "primary", "strong":
		consistency = cluster.Strong
	case "standby":
		read = read || onlySelects(info)
		consistency = cluster.Eventual
	case "eventual":
		consistency = cluster.Eventual
	}
	choice := v.table.Write()
	if read && consistency != cluster.Strong {
		var fresh route.Token
		choice = v.table.Read(route.Request{Consistency: consistency, Token: &fresh, InFlight: r.inFlight, Rand: func(int) int { return 0 }}, v.settings.Reads.Fallback)
		reason = choice.Reason
	} else if read {
		reason = "consistency is strong"
	}
	out := Routed{Class: "write", Reason: reason}
	if choice.Server != nil {
		out.Node, out.Address = choice.Server.Name, choice.Server.Address
	} else if choice.Err != nil {
		out.Reason = choice.Err.Error()
	}
	if info.Err != nil || len(info.Statements) == 0 {
		out.Statement = sql
		if info.Err != nil {
			out.Class = "unknown"
		}
		return []Routed{out}, nil
	}
	all := make([]Routed, len(info.Statements))
	for i := range info.Statements {
		all[i] = out
		all[i].Statement, all[i].Class = info.Text(sql, i), strings.ToLower(info.Statements[i].Kind.String())
		if info.Statements[i].Kind == statement.Read && !read && len(all) == 1 {
			all[i].Class = "write" // a query by its form, but not by what it calls
		}
	}
	return all, nil
}
