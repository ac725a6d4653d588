package network

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// maxInterface is how long the name of an interface may be (IFNAMSIZ, less its
// zero byte).
const maxInterface = 15

// vlanName is what this package calls a VLAN on an interface, which also tells
// those that it made from others'.
func vlanName(parent string, id int) string {
	if name := fmt.Sprintf("%s.%d", parent, id); len(name) <= maxInterface {
		return name
	}
	return fmt.Sprintf("vlan%d", id) // an adapter named after its MAC address
}

// vlan makes the VLAN of the plan on an interface, if it is not there yet, and
// answers it. The interface itself has no address then.
func (r *runner) vlan(parent link) (link, error) {
	want := vlan{parent: parent.index, id: r.plan.vlan, priority: r.plan.vlanPriority}
	name := vlanName(parent.name, want.id)
	l, err := r.m.kernel.Link(name)
	if err == nil && l.vlan != want {
		if l.vlan.id == 0 {
			return link{}, fmt.Errorf("VLAN %d on %s: the name %s is taken", want.id, parent.name, name)
		}
		if err := r.m.kernel.DeleteVLAN(l); err != nil {
			return link{}, err
		}
		err = fs.ErrNotExist
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	if !parent.up { // or the VLAN cannot start
		if err := r.m.kernel.SetUp(parent); err != nil {
			return link{}, err
		}
	}
	if r.mtuSet && r.link.index == parent.index {
		// It is of a lease in the net that the board leaves, and the VLAN would
		// begin with it.
		if err := r.m.kernel.SetMTU(parent, standardMTU); err != nil {
			return link{}, err
		}
	}
	if err := r.m.kernel.AddVLAN(parent, name, want); err != nil {
		return link{}, err
	}
	return r.m.kernel.Link(name)
}

// parent makes the interface below the VLAN what it is to be: up, without
// addresses, and without VLANs that an earlier configuration made. Where there
// is no VLAN, parent is the interface in use, and only the last of that is done.
func (r *runner) parent(parent link) error {
	var errs []error
	if parent.index != r.link.index {
		if !parent.up {
			errs = append(errs, r.m.kernel.SetUp(parent))
		}
		// This takes its IPv6 addresses, too.
		disabled := path.Join("net/ipv6/conf", parent.name, "disable_ipv6")
		if off, err := r.m.kernel.Sysctl(disabled); err == nil && off != "1" {
			errs = append(errs, r.m.kernel.SetSysctl(disabled, "1"))
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("reading the settings of IPv6: %w", err))
		}
		errs = append(errs, r.addresses(parent, nil, true), r.routes(parent, nil, true))
	}
	vlans, err := r.m.kernel.VLANs(parent)
	errs = append(errs, err)
	for _, l := range vlans {
		if l.index != r.link.index && l.name == vlanName(parent.name, l.vlan.id) {
			errs = append(errs, r.m.kernel.DeleteVLAN(l))
		}
	}
	return errors.Join(errs...)
}
