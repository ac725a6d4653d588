//go:build e2e || bench

package test

import "fmt"

// A portal is a way to an iSCSI target.
type portal struct {
	addr   string // host:port
	target string // its iSCSI name
}

// url is how libiscsi and QEMU name a logical unit.
func (p portal) url(lun int) string { return fmt.Sprintf("iscsi://%s/%s/%d", p.addr, p.target, lun) }
