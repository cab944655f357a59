package sql

import _ "embed"

// The statements of replication/physical.
var (
	//go:embed physical/observe.sql
	PhysicalObserve string
	//go:embed physical/command_line.sql
	PhysicalCommandLine string
	//go:embed physical/slots.sql
	PhysicalSlots string
	//go:embed physical/slot_states.sql
	PhysicalSlotStates string
)
