package cluster

// HasData tells whether the node has reported a data directory that a server has made.
func (n NodeStatus) HasData() bool {
	switch n.State {
	case NodeStopped, NodeStarting, NodeRunning:
		return true
	default:
		return n.SystemID != ""
	}
}

// RunsAs tells whether the node has reported a server that accepts connections in this role.
func (n NodeStatus) RunsAs(role Role) bool { return n.State == NodeRunning && n.Role == role }

// ReadLimits are the limits beyond which the node serves no reads: the common ones with its overrides.
func (r Reads) ReadLimits(node string) (Bytes, Duration) {
	o := r.Overrides[node]
	bytes, lag := r.MaxLagBytes, r.MaxLag
	if o.MaxLagBytes != 0 {
		bytes = o.MaxLagBytes
	}
	if o.MaxLag != 0 {
		lag = o.MaxLag
	}
	return bytes, lag
}
