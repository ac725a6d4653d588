// Package network gives the board its own addresses on the management network:
// by DHCP (RFC 2131) or fixed for IPv4, by the routers' advertisements (RFC
// 4862) or fixed for IPv6.
//
// One loop (manager.go) compares what the settings and the lease want with what
// the kernel has, at each change of either, and mends the difference: what stays
// the same is not touched, so that nothing flaps. The DHCP client (client.go)
// only finds leases. The kernel (netlink.go) and the wire (wire.go) stand behind
// small interfaces.
package network
