//go:build !race

package testenv

// raceEnabled tells whether the test was built with the race detector.
const raceEnabled = false
