package guard

import (
	"golang.org/x/sys/unix"

	"github.com/multicoord/multicoord/failover"
)

// Instant is a reading of CLOCK_BOOTTIME in nanoseconds; zero is "none".
type Instant = failover.Instant

// Now reads CLOCK_BOOTTIME: comparable between processes of one boot, unmoved by changes of the wall clock, and counting
// suspended time.
func Now() Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Linux has had this clock since 2.6.39 and the call has no other way to fail; without a clock there is no
		// safe way on.
		panic("read CLOCK_BOOTTIME: " + err.Error())
	}
	return Instant(ts.Nano())
}
