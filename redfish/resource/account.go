package resource

import (
	"strconv"

	"github.com/nitrino/nitrino/auth"
)

// AccountURI is the URI of a user's ManagerAccount. Its Id is the user's name, as
// most services have it, all of whose characters a URI may have. "Members" alone
// is no Id in a collection that takes POST (see protocol.New): a user of
// that name goes by his number, which no name can be.
func AccountURI(u auth.User) string {
	if u.Name == "Members" {
		return AccountsURI + "/" + strconv.Itoa(u.Number)
	}
	return AccountsURI + "/" + u.Name
}
