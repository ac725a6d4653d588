package certificate

import (
	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/redfish/resource"
)

type actionInfo struct {
	resource.OData
	Parameters []parameter `json:"Parameters"`
}

// parameter is ActionInfo.Parameters.
type parameter struct {
	Name             string   `json:"Name"`
	Required         bool     `json:"Required"`
	DataType         string   `json:"DataType"`
	ObjectDataType   string   `json:"ObjectDataType,omitempty"`
	AllowableValues  []string `json:"AllowableValues,omitempty"`
	AllowableNumbers []string `json:"AllowableNumbers,omitempty"`
	AllowablePattern string   `json:"AllowablePattern,omitempty"`
	DefaultValue     string   `json:"DefaultValue,omitempty"`
}

func (s *Service) getCSRInfo(*resource.Request) *resource.Reply {
	info := actionInfo{OData: resource.NewOData(csrInfoURI, infoType, "Generate CSR Action Info"), Parameters: []parameter{
		{Name: "CertificateCollection", Required: true, DataType: "Object", ObjectDataType: "#" + collectionType},
		{Name: "AlternativeNames", DataType: "StringArray"},
	}}
	for _, f := range nameFields(&auth.CSR{}) {
		p := parameter{Name: f.name, DataType: "String"}
		if f.name == "Country" {
			p.AllowablePattern = "^[A-Za-z]{2}$"
		}
		info.Parameters = append(info.Parameters, p)
	}
	info.Parameters = append(info.Parameters,
		parameter{Name: "KeyUsage", DataType: "StringArray", AllowableValues: keyUsages()},
		parameter{Name: "KeyPairAlgorithm", DataType: "String", AllowableValues: keyAlgorithms(), DefaultValue: ecdsaKey},
		parameter{Name: "KeyCurveId", DataType: "String", AllowableValues: keyCurves(), DefaultValue: keyCurves()[0]},
		parameter{Name: "KeyBitLength", DataType: "Number", AllowableNumbers: keyLengths(), DefaultValue: keyLengths()[0]},
	)
	return resource.OK(info)
}

func (s *Service) getReplaceInfo(*resource.Request) *resource.Reply {
	return resource.OK(actionInfo{OData: resource.NewOData(replaceInfoURI, infoType, "Replace Certificate Action Info"), Parameters: []parameter{
		{Name: "CertificateString", Required: true, DataType: "String"},
		{Name: "CertificateType", Required: true, DataType: "String", AllowableValues: certificateTypes()},
		{Name: "CertificateUri", Required: true, DataType: "Object", ObjectDataType: "#" + certificateType},
	}})
}
