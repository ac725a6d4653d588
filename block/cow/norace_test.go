//go:build !race

package cow

// poolMisses: see race_test.go.
const poolMisses = 0
