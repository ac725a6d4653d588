package event

import (
	"slices"
	"strings"
)

// A Filter says which events a subscription is for (schema EventDestination); an
// empty list says nothing.
type Filter struct {
	// MetricReports: it is for metric reports; else for events.
	MetricReports           bool     `json:"metric_reports,omitempty"`
	RegistryPrefixes        []string `json:"registry_prefixes,omitempty"`
	ExcludeRegistryPrefixes []string `json:"exclude_registry_prefixes,omitempty"`
	MessageIDs              []string `json:"message_ids,omitempty"`
	ExcludeMessageIDs       []string `json:"exclude_message_ids,omitempty"`
	EventTypes              []string `json:"event_types,omitempty"`
	ResourceTypes           []string `json:"resource_types,omitempty"`
	OriginResources         []string `json:"origin_resources,omitempty"`
	// SubordinateResources: what is below OriginResources counts too.
	SubordinateResources    bool     `json:"subordinate_resources,omitempty"`
	Severities              []string `json:"severities,omitempty"`
	MetricReportDefinitions []string `json:"metric_report_definitions,omitempty"`
}

// matches reports whether the filter lets an item through.
func (f Filter) matches(i *item) bool {
	if f.MetricReports != (i.report != "") {
		return false
	}
	if i.report != "" {
		return unsaid(f.MetricReportDefinitions, i.report)
	}
	if len(f.RegistryPrefixes) > 0 || len(f.MessageIDs) > 0 {
		// Either of the two lets it through.
		if !slices.Contains(f.RegistryPrefixes, i.registry) && !hasID(f.MessageIDs, i) {
			return false
		}
	}
	if slices.Contains(f.ExcludeRegistryPrefixes, i.registry) || hasID(f.ExcludeMessageIDs, i) {
		return false
	}
	return unsaid(f.EventTypes, i.eventType) && unsaid(f.ResourceTypes, i.resourceType) && unsaid(f.Severities, i.severity) &&
		(len(f.OriginResources) == 0 || slices.ContainsFunc(f.OriginResources, func(uri string) bool { return isOrigin(i, uri, f.SubordinateResources) }))
}

// unsaid reports whether a list has a value, or says nothing.
func unsaid(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }

// hasID compares MessageIds without their versions.
func hasID(list []string, i *item) bool {
	return slices.ContainsFunc(list, func(id string) bool { return isID(i, id) })
}

func isID(i *item, id string) bool {
	registry, key := splitID(id)
	return registry == i.registry && key == i.key
}

// isOrigin reports whether an item is about a resource or, with below, about one
// that is subordinate to it.
func isOrigin(i *item, uri string, below bool) bool {
	uri = strings.TrimSuffix(uri, "/")
	rest, found := strings.CutPrefix(i.origin, uri)
	return found && (rest == "" || below && (rest[0] == '/' || rest[0] == '#'))
}
