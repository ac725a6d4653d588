package redfish

// odata is what every resource begins with. Its entity tag is put in when the
// resource is encoded.
type odata struct {
	ODataID   string `json:"@odata.id"`
	ODataType string `json:"@odata.type"`
	Name      string `json:"Name"`
}

func (o odata) odataType() string { return o.ODataType }

// typed is a resource: a struct that embeds odata.
type typed interface{ odataType() string }

// A link refers to another resource (schema odata-v4, idRef).
type link struct {
	ODataID string `json:"@odata.id"`
}

// A collection is any resource collection; none of their schemas has more.
type collection struct {
	odata
	Count   int    `json:"Members@odata.count"`
	Members []link `json:"Members"`
}

// newCollection never leaves Members null.
func newCollection(uri, schema, name string, members ...string) collection {
	c := collection{odata{uri, "#" + schema + "." + schema, name}, len(members), []link{}}
	for _, m := range members {
		c.Members = append(c.Members, link{m})
	}
	return c
}

// status is Resource.Status. A nil State is null: nobody can tell.
type status struct {
	State  *string `json:"State"`
	Health string  `json:"Health"`
}
