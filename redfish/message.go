package redfish

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// The registry of every message here, in the form of a MessageId: name, major
// and minor version (DSP0266, MessageId format). Texts, severities and
// resolutions are those of DMTF's Base.1.22.1.
const baseRegistry = "Base.1.22."

// The severities of messages (Resource.Health).
const (
	warning  = "Warning"
	critical = "Critical"
)

// A message is one entry of @Message.ExtendedInfo (schema Message.v1_3_0).
type message struct {
	Type              string   `json:"@odata.type"`
	ID                string   `json:"MessageId"`
	Text              string   `json:"Message"`
	Args              []string `json:"MessageArgs,omitempty"`
	RelatedProperties []string `json:"RelatedProperties,omitempty"`
	Severity          string   `json:"MessageSeverity"`
	Resolution        string   `json:"Resolution"`

	status     int // the HTTP status that goes with it
	retryAfter int // seconds; 0: no header Retry-After
}

const messageType = "#Message.v1_3_0.Message"

// newMessage fills args into the registry's text.
func newMessage(status int, severity, key, text, resolution string, args ...string) message {
	for i, a := range args {
		args[i] = clip(a)
	}
	pairs := make([]string, 0, 2*len(args))
	for i, a := range args {
		pairs = append(pairs, "%"+strconv.Itoa(i+1), a)
	}
	return message{Type: messageType, ID: baseRegistry + key, Text: strings.NewReplacer(pairs...).Replace(text),
		Args: args, Severity: severity, Resolution: resolution, status: status}
}

// clip keeps what a client sent, and gets to see again, short.
func clip(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// about names the properties that a message is about, as JSON pointers (RFC
// 6901) in URI fragment form.
func (m message) about(pointers ...string) message {
	m.RelatedProperties = pointers
	return m
}

// pointer makes the JSON pointer of a property, whose name may be anything a
// client sent.
func pointer(names ...string) string {
	p := "#"
	for _, n := range names {
		p += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(clip(n))
	}
	return p
}

// errorBody is the body of an error response (schema redfish-error).
func errorBody(problems []message) ([]byte, error) {
	code, text := problems[0].ID, problems[0].Text
	if len(problems) > 1 {
		m := generalError(0, "")
		code, text = m.ID, m.Text
	}
	type contents struct {
		Code         string    `json:"code"`
		Message      string    `json:"message"`
		ExtendedInfo []message `json:"@Message.ExtendedInfo"`
	}
	body, err := json.Marshal(struct {
		Error contents `json:"error"`
	}{contents{code, text, problems}})
	if err != nil {
		return nil, fmt.Errorf("encoding an error: %w", err)
	}
	return body, nil
}

// annotations is the member of a resource that says what a partly successful
// PATCH could not do, with a comma after it.
func annotations(problems []message) ([]byte, error) {
	list, err := json.Marshal(problems)
	if err != nil {
		return nil, fmt.Errorf("encoding messages: %w", err)
	}
	return append(append([]byte(`"@Message.ExtendedInfo":`), list...), ','), nil
}

// generalError is for what the registry has no word for. It must carry a
// resolution of the service's own (the registry's description says so).
func generalError(status int, resolution string) message {
	return newMessage(status, critical, "GeneralError",
		"A general error has occurred.  See Resolution for information on how to resolve the error, or @Message.ExtendedInfo if Resolution is not provided.",
		resolution)
}

func needsTLS() message {
	return generalError(http.StatusForbidden, "Log in over HTTPS; credentials are not taken over a connection without TLS.")
}

// preconditionFailed: the registry keeps its message of that name for deep
// operations.
func preconditionFailed() message {
	return generalError(http.StatusPreconditionFailed, "Read the resource again and resubmit the request with its present ETag.")
}

func unauthorized() message {
	return newMessage(http.StatusUnauthorized, critical, "AccessUnauthorized",
		"Unauthorized.", "Resubmit the request with valid credentials.")
}

func insufficientPrivilege() message {
	return newMessage(http.StatusForbidden, critical, "InsufficientPrivilege",
		"There are insufficient privileges for the account or credentials associated with the current session to perform the requested operation.",
		"Either abandon the operation or change the associated access rights and resubmit the request if the operation failed.")
}

func invalidURI(uri string) message {
	return newMessage(http.StatusNotFound, critical, "InvalidURI",
		"The URI %1 was not found.",
		"Provide a valid URI and resubmit the request.", uri)
}

func resourceNotFound(schema, id string) message {
	return newMessage(http.StatusNotFound, critical, "ResourceNotFound",
		"The requested resource of type %1 named '%2' was not found.",
		"Provide a valid resource identifier and resubmit the request.", schema, id)
}

func operationNotAllowed() message {
	return newMessage(http.StatusMethodNotAllowed, critical, "OperationNotAllowed",
		"The HTTP method is not allowed on this resource.", "None.")
}

func headerInvalid(name string, status int) message {
	return newMessage(status, critical, "HeaderInvalid",
		"Header '%1' is invalid.", "Resubmit the request with a valid request header.", name)
}

func queryParameterUnsupported(name string) message {
	return newMessage(http.StatusNotImplemented, warning, "QueryParameterUnsupported",
		"Query parameter '%1' is not supported.",
		"Correct or remove the query parameter and resubmit the request.", name)
}

func payloadTooLarge() message {
	return newMessage(http.StatusRequestEntityTooLarge, critical, "PayloadTooLarge",
		"The supplied payload exceeds the maximum size supported by the service.",
		"Check that the supplied payload is correct and supported by this service.")
}

func malformedJSON() message {
	return newMessage(http.StatusBadRequest, critical, "MalformedJSON",
		"The request body submitted was malformed JSON and could not be parsed by the receiving service.",
		"Ensure that the request body is valid JSON and resubmit the request.")
}

func unrecognizedRequestBody() message {
	return newMessage(http.StatusBadRequest, warning, "UnrecognizedRequestBody",
		"The service detected a malformed request body that it was unable to interpret.",
		"Correct the request body and resubmit the request if it failed.")
}

func emptyJSON() message {
	return newMessage(http.StatusBadRequest, warning, "EmptyJSON",
		"The request body submitted contained an empty JSON object and the service is unable to process it.",
		"Add properties in the JSON object and resubmit the request.")
}

func noOperation() message {
	return newMessage(http.StatusBadRequest, warning, "NoOperation",
		"The request body submitted contain no data to act upon and no changes to the resource took place.",
		"Add properties in the JSON object and resubmit the request.")
}

func propertyDuplicate(name string) message {
	return newMessage(http.StatusBadRequest, warning, "PropertyDuplicate",
		"The property %1 was duplicated in the request.",
		"Remove the duplicate property from the request body and resubmit the request if the operation failed.", name)
}

func propertyUnknown(name string) message {
	return newMessage(http.StatusBadRequest, warning, "PropertyUnknown",
		"The property %1 is not in the list of valid properties for the resource.",
		"Remove the unknown property from the request body and resubmit the request if the operation failed.", name)
}

func propertyNotWritable(name string) message {
	return newMessage(http.StatusBadRequest, warning, "PropertyNotWritable",
		"The property %1 is a read-only property and cannot be assigned a value.",
		"Remove the property from the request body and resubmit the request if the operation failed.", name)
}

func propertyMissing(name string) message {
	return newMessage(http.StatusBadRequest, warning, "PropertyMissing",
		"The property %1 is a required property and must be included in the request.",
		"Ensure that the property is in the request body and has a valid value and resubmit the request if the operation failed.", name)
}

func propertyValueTypeError(value any, name string) message {
	return newMessage(http.StatusBadRequest, warning, "PropertyValueTypeError",
		"The value '%1' for the property %2 is not a type that the property can accept.",
		"Correct the value for the property in the request body and resubmit the request if the operation failed.", show(value), name)
}

func propertyValueNotInList(value any, name string) message {
	return newMessage(http.StatusBadRequest, warning, "PropertyValueNotInList",
		"The value '%1' for the property %2 is not in the list of acceptable values.",
		"Choose a value from the enumeration list that the implementation can support and resubmit the request if the operation failed.", show(value), name)
}

func propertyValueOutOfRange(value any, name string) message {
	return newMessage(http.StatusBadRequest, warning, "PropertyValueOutOfRange",
		"The value '%1' for the property %2 is not in the supported range of acceptable values.",
		"Correct the value for the property in the request body and resubmit the request if the operation failed.", show(value), name)
}

func propertyValueConflict(name, other string) message {
	return newMessage(http.StatusBadRequest, warning, "PropertyValueConflict",
		"The property '%1' could not be written because its value would conflict with the value of the '%2' property.",
		"None.", name, other)
}

func propertyNotUpdated(name string) message {
	return newMessage(http.StatusInternalServerError, critical, "PropertyNotUpdated",
		"The property %1 was not updated due to an internal service error.  The service is still operational.",
		"Resubmit the request.  If the problem persists, check for additional messages and consider resetting the service.", name)
}

func actionParameterMissing(action, name string) message {
	return newMessage(http.StatusBadRequest, critical, "ActionParameterMissing",
		"The action %1 requires the parameter %2 to be present in the request body.",
		"Supply the action with the required parameter in the request body when the request is resubmitted.", action, name)
}

func actionParameterDuplicate(action, name string) message {
	return newMessage(http.StatusBadRequest, warning, "ActionParameterDuplicate",
		"The action %1 was submitted with more than one value for the parameter %2.",
		"Resubmit the action with only one instance of the action parameter in the request body if the operation failed.", action, name)
}

func actionParameterUnknown(action, name string) message {
	return newMessage(http.StatusBadRequest, warning, "ActionParameterUnknown",
		"The action %1 was submitted with the invalid parameter %2.",
		"Correct the invalid action parameter and resubmit the request if the operation failed.", action, name)
}

func actionParameterValueTypeError(value any, name, action string) message {
	return newMessage(http.StatusBadRequest, warning, "ActionParameterValueTypeError",
		"The value '%1' for the parameter %2 in the action %3 is not a type that the parameter can accept.",
		"Correct the value for the parameter in the request body and resubmit the request if the operation failed.", show(value), name, action)
}

func actionParameterValueNotInList(value any, name, action string) message {
	return newMessage(http.StatusBadRequest, warning, "ActionParameterValueNotInList",
		"The value '%1' for the parameter %2 in the action %3 is not in the list of acceptable values.",
		"Choose a value from the enumeration list that the implementation can support and resubmit the request if the operation failed.", show(value), name, action)
}

func resourceInUse() message {
	return newMessage(http.StatusConflict, warning, "ResourceInUse",
		"The change to the requested resource failed because the resource is in use or in transition.",
		"Remove the condition and resubmit the request if the operation failed.")
}

func resourceInStandby() message {
	return newMessage(http.StatusConflict, critical, "ResourceInStandby",
		"The request could not be performed because the resource is in standby.",
		"Ensure that the resource is in the correct power state and resubmit the request.")
}

// temporarilyUnavailable also sets the header Retry-After (RFC 9110 section
// 10.2.3), to the same number of seconds.
func temporarilyUnavailable() message {
	const seconds = 5
	m := newMessage(http.StatusServiceUnavailable, critical, "ServiceTemporarilyUnavailable",
		"The service is temporarily unavailable.  Retry in %1 seconds.",
		"Wait for the indicated retry duration and retry the operation.", strconv.Itoa(seconds))
	m.retryAfter = seconds
	return m
}

func internalError() message {
	return newMessage(http.StatusInternalServerError, critical, "InternalError",
		"The request failed due to an internal service error.  The service is still operational.",
		"Resubmit the request.  If the problem persists, consider resetting the service.")
}
