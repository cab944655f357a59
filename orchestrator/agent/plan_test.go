package agent

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/multicoord/multicoord/orchestrator/cluster"
)

func group(phase cluster.Phase, primary string) *cluster.GroupState {
	g := &cluster.GroupState{ID: 1, Phase: phase, Primary: primary, Term: 3}
	if phase == cluster.Running {
		g.SystemID = "42"
	}
	return g
}

func primaryStatus(slots ...string) *cluster.NodeStatus {
	return &cluster.NodeStatus{Name: "a", State: cluster.NodeRunning, Role: cluster.Primary, Term: 3, Slots: slots}
}

func view(name string, g *cluster.GroupState) View {
	v := View{Node: cluster.Node{Name: name}, Placed: true, Group: g}
	for _, n := range []string{"a", "b"} {
		if n != name {
			v.Peers = append(v.Peers, n)
		}
	}
	return v
}

var (
	primaryData = Disk{Present: true, SystemID: "42"}
	standbyData = Disk{Present: true, SystemID: "42", StandbySignal: true}
	asPrimary   = Observation{SystemID: "42", Slots: []string{"b"}}
	asStandby   = Observation{SystemID: "42", InRecovery: true}
)

func TestPlan(t *testing.T) {
	gone := func(v View) View { v.Placed = false; return v }
	withPrimary := func(v View, p *cluster.NodeStatus) View { v.Primary = p; return v }
	tests := []struct {
		rule string
		view View
		seen Seen
		want Kind
	}{
		{"a foreign directory is never touched", view("a", group(cluster.Initializing, "a")), Seen{Disk: Disk{Foreign: "of another cluster"}}, Refuse},
		{"a foreign directory of a removed node is not removed", gone(view("b", nil)), Seen{Disk: Disk{Foreign: "x", Present: true}}, Refuse},
		{"what may be running is not started", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 3, Unknown: "its guard does not answer"}, Wait},
		{"the grant of what may be running is not released", view("a", group(cluster.Running, "b")), Seen{Disk: primaryData, Held: true, HeldTerm: 2, Unknown: "its guard does not answer"}, Wait},
		{"what may be running is not removed", gone(view("b", group(cluster.Running, "a"))), Seen{Disk: standbyData, Unknown: "its guard does not answer"}, Wait},

		{"without a decision nothing begins", view("a", nil), Seen{}, Wait},
		{"without a decision no primary runs", view("a", nil), Seen{Disk: primaryData, Running: true, Ready: true, Server: asPrimary}, StopServer},
		{"without a decision a standby runs on", view("a", nil), Seen{Disk: standbyData, Running: true, Ready: true, Server: asStandby}, Wait},

		{"the first primary acquires its grant before anything else", view("a", group(cluster.Initializing, "a")), Seen{}, Acquire},
		{"initdb happens in a new group, under the grant", view("a", group(cluster.Initializing, "a")), Seen{Held: true, HeldTerm: 3}, InitDB},
		{"a failed initdb rests before it is tried again", view("a", group(cluster.Initializing, "a")), Seen{Held: true, HeldTerm: 3, BackingOff: "disk full"}, Wait},
		{"initdb never happens in a group that has data", view("a", group(cluster.Running, "a")), Seen{Held: true, HeldTerm: 3}, Refuse},
		{"a primary's missing data are not even locked", view("a", group(cluster.Running, "a")), Seen{}, Refuse},
		{"a primary is started under its grant", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 3}, Start},
		{"a primary without a grant is not started", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData}, Acquire},
		{"a primary found running acquires its grant", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Running: true, Ready: true, Server: asPrimary}, Acquire},
		{"a grant of an older term stops the server first", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Running: true, Ready: true, Server: asPrimary, Held: true, HeldTerm: 2}, StopServer},
		{"and is released then", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 2}, Release},
		{"a crashed primary rests before it is started again", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 3, BackingOff: "it crashed"}, Wait},
		{"a starting primary is waited for", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 3, Running: true}, Wait},
		{"changed settings are loaded", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 3, Running: true, Ready: true, Server: asPrimary}, Configure},
		{"roles are made when a term begins", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 3, Running: true, Ready: true, Server: asPrimary, Configured: true}, Prepare},
		{"slots follow the group's nodes", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 3, Running: true, Ready: true, Server: Observation{SystemID: "42"}, Configured: true, Prepared: true}, EnsureSlots},
		{"a primary that is as it should be is kept", view("a", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 3, Running: true, Ready: true, Server: asPrimary, Configured: true, Prepared: true}, Keep},
		{"data of another system are not started", view("a", group(cluster.Running, "a")), Seen{Disk: Disk{Present: true, SystemID: "7"}, Held: true, HeldTerm: 3}, Refuse},
		{"data of another system are stopped", view("b", group(cluster.Running, "a")), Seen{Disk: Disk{Present: true, SystemID: "7", StandbySignal: true}, Running: true}, StopServer},
		{"standby's data under a primary's name are not promoted silently", view("a", group(cluster.Running, "a")), Seen{Disk: standbyData, Held: true, HeldTerm: 3}, Refuse},

		{"a standby waits until the group has data", view("b", group(cluster.Initializing, "a")), Seen{}, Wait},
		{"a standby waits for a running primary", view("b", group(cluster.Running, "a")), Seen{}, Wait},
		{"a standby waits for its slot", withPrimary(view("b", group(cluster.Running, "a")), primaryStatus()), Seen{}, Wait},
		{"a standby is cloned from the primary", withPrimary(view("b", group(cluster.Running, "a")), primaryStatus("b")), Seen{}, BaseBackup},
		{"a standby is not cloned from a primary of an older term", withPrimary(view("b", group(cluster.Running, "a")), &cluster.NodeStatus{State: cluster.NodeRunning, Role: cluster.Primary, Term: 2, Slots: []string{"b"}}), Seen{}, Wait},
		{"a standby starts without its primary", view("b", group(cluster.Running, "a")), Seen{Disk: standbyData}, Start},
		{"a standby follows", view("b", group(cluster.Running, "a")), Seen{Disk: standbyData, Running: true, Ready: true, Server: asStandby}, Configure},
		{"a starting standby can follow another primary", view("b", group(cluster.Running, "a")), Seen{Disk: standbyData, Running: true}, Configure},
		{"a standby that is as it should be is kept", view("b", group(cluster.Running, "a")), Seen{Disk: standbyData, Running: true, Ready: true, Server: asStandby, Configured: true}, Keep},
		{"a former primary is stopped", view("b", group(cluster.Running, "a")), Seen{Disk: primaryData, Running: true, Ready: true, Server: asPrimary, Held: true, HeldTerm: 2}, StopServer},
		{"a former primary is stopped while it starts", view("b", group(cluster.Running, "a")), Seen{Disk: primaryData, Running: true}, StopServer},
		{"and gives its grant back after that", view("b", group(cluster.Running, "a")), Seen{Disk: primaryData, Held: true, HeldTerm: 2}, Release},
		{"and its data are not cloned over", view("b", group(cluster.Running, "a")), Seen{Disk: primaryData}, Refuse},

		{"a removed standby is stopped", gone(view("b", group(cluster.Running, "a"))), Seen{Disk: standbyData, Running: true}, StopServer},
		{"and then removed", gone(view("b", group(cluster.Running, "a"))), Seen{Disk: standbyData}, Remove},
		{"a removed node's data are kept if they are a primary's", gone(view("b", group(cluster.Running, "a"))), Seen{Disk: primaryData}, Refuse},
		{"the group's primary is never removed", gone(view("a", group(cluster.Running, "a"))), Seen{Disk: primaryData, Running: true}, Refuse},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			got := Plan(tt.view, tt.seen)
			require.Equal(t, tt.want, got.Kind, got.Reason)
			if got.Kind == Wait || got.Kind == Refuse {
				require.NotEmpty(t, got.Reason, "who waits or refuses says why")
			}
		})
	}
}

// anyView and anySeen draw every combination, likely or not.
func anyView(t *rapid.T) View {
	var g *cluster.GroupState
	if rapid.Bool().Draw(t, "decided") {
		g = group(rapid.SampledFrom([]cluster.Phase{cluster.Initializing, cluster.Running}).Draw(t, "phase"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "primary"))
	}
	v := view("a", g)
	v.Placed = rapid.Bool().Draw(t, "placed")
	if rapid.Bool().Draw(t, "primary reports") {
		v.Primary = primaryStatus(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b"}), 0, 2).Draw(t, "slots")...)
	}
	return v
}

func anySeen(t *rapid.T) Seen {
	b := func(name string) bool { return rapid.Bool().Draw(t, name) }
	s := Seen{Running: b("running"), Ready: b("ready"), Held: b("held"), Configured: b("configured"), Prepared: b("prepared")}
	s.Disk = Disk{Present: b("present"), StandbySignal: b("signal"), SystemID: rapid.SampledFrom([]string{"42", "7"}).Draw(t, "system")}
	if b("foreign") && b("really foreign") {
		s.Disk.Foreign = "of another cluster"
	}
	s.Server = Observation{InRecovery: b("recovery"), SystemID: s.Disk.SystemID}
	if s.Held {
		s.HeldTerm = rapid.SampledFrom([]uint64{2, 3}).Draw(t, "term")
	}
	if b("unknown") {
		s.Unknown = "its guard does not answer"
	}
	if b("resting") {
		s.BackingOff = "it failed"
	}
	return s
}

func TestPlanNeverEndangersData(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, s := anyView(t), anySeen(t)
		step := Plan(v, s)
		switch step.Kind {
		case InitDB:
			require.False(t, s.Disk.Present, "initdb over data")
			require.True(t, v.Group.Phase == cluster.Initializing && s.Held && s.HeldTerm == v.Group.Term, "initdb outside a new group's first term")
		case BaseBackup:
			require.False(t, s.Disk.Present, "base backup over data")
			require.NotEqual(t, v.Group.Primary, v.Node.Name, "the primary cloned from itself")
		case Remove:
			require.False(t, s.Running, "a running server's directory removed")
			require.True(t, !s.Disk.Present || s.Disk.StandbySignal, "a primary's data removed")
			require.False(t, v.Placed)
		case Start:
			require.False(t, s.Running)
			require.True(t, s.Disk.Present)
			if v.Group.SystemID != "" {
				require.Equal(t, v.Group.SystemID, s.Disk.SystemID)
			}
			if !s.Disk.StandbySignal {
				require.True(t, s.Held && s.HeldTerm == v.Group.Term && v.Group.Primary == v.Node.Name, "a primary started without its grant")
			}
		case Release:
			require.False(t, s.Running && !s.Server.InRecovery && s.Ready, "the grant released under a running primary")
		}
		if s.Unknown != "" {
			require.Contains(t, []Kind{Wait, Refuse}, step.Kind, "something was done to a server that may run")
		}
		if s.Disk.Foreign != "" {
			require.Equal(t, Refuse, step.Kind)
		}
	})
}
