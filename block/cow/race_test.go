//go:build race

package cow

// poolMisses is how many allocations sync.Pool makes at most in TestAllocations: with
// the race detector it forgets what it was given at random.
const poolMisses = 4
