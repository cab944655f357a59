// Package state is the agreed state's layout: which key holds what, and the codec between the store's items and
// the values of package cluster.
//
// Level: pure, but for Watch, which follows a store.
//
// Keys, relative to the cluster's prefix, with their one writer:
//
//	spec                 cluster.Spec          the operator's command
//	secrets              sealed bytes          init
//	leader               cluster.LeaderStatus  election
//	groups/<id>          cluster.GroupState    leader
//	groups/<id>/grant    cluster.Grant         the primary's agent, on a lease
//	nodes/<name>         cluster.NodeStatus    its agent, on its lease
//	agents/<host>        cluster.AgentStatus   that agent, on its lease
//	routers/<id>         cluster.RouterStatus  that router, on its lease
//	history/<time>-<n>   cluster.Event         leader
//
// All values but the secrets are JSON. Fields that we do not know are ignored, so that processes of neighbouring
// versions understand each other; other keys are ignored altogether.
//
// It never decides anything.
package state

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The single keys.
const (
	Spec    = "spec"
	Secrets = "secrets"
	Leader  = "leader"
)

const (
	groups  = "groups/"
	nodes   = "nodes/"
	agents  = "agents/"
	routers = "routers/"
	history = "history/"
	grant   = "/grant"
)

// Group is the key of a group's state.
func Group(id int) string { return groups + strconv.Itoa(id) }

// Grant is the key of the right to be the group's primary.
func Grant(group int) string { return Group(group) + grant }

// Node is the key of a node's report.
func Node(name string) string { return nodes + name }

// Agent is the key of the agent on a host.
func Agent(host string) string { return agents + host }

// Router is the key of a router.
func Router(id string) string { return routers + id }

// historyTime sorts as text; always UTC.
const historyTime = "20060102T150405.000000000Z"

// History is the key of an event. Keys sort by time; n tells events of one instant apart.
func History(at time.Time, n int) string {
	return fmt.Sprintf("%s%s-%04d", history, at.UTC().Format(historyTime), n)
}

// groupID reads "groups/<id>" and "groups/<id>/grant".
func groupID(key string) (id int, isGrant, ok bool) {
	rest, found := strings.CutPrefix(key, groups)
	if !found {
		return 0, false, false
	}
	rest, isGrant = strings.CutSuffix(rest, grant)
	id, err := strconv.Atoi(rest)
	if err != nil || id < 0 || strconv.Itoa(id) != rest {
		return 0, false, false
	}
	return id, isGrant, true
}
