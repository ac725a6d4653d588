package message

import (
	"net/http"
	"strconv"
)

// Each function of this file makes one message of DMTF's registry Base, with
// the HTTP status that goes with it.

// GeneralError is for what the registry has no word for. It must carry a
// resolution of the service's own (the registry's description says so).
func GeneralError(status int, resolution string) Message {
	return base(status, Critical, "GeneralError",
		"A general error has occurred.  See Resolution for information on how to resolve the error, or @Message.ExtendedInfo if Resolution is not provided.",
		resolution)
}

// NeedsTLS: a login that did not come over TLS.
func NeedsTLS() Message {
	return GeneralError(http.StatusForbidden, "Log in over HTTPS; credentials are not taken over a connection without TLS.")
}

// PreconditionFailed: the client means another state of the resource.
func PreconditionFailed() Message {
	return base(http.StatusPreconditionFailed, Critical, "PreconditionFailed",
		"The ETag supplied did not match the ETag required to change this resource.",
		"Try the operation again using the appropriate ETag.")
}

// HeaderInvalid has a status of the caller's: it depends on the header.
func HeaderInvalid(name string, status int) Message {
	return base(status, Critical, "HeaderInvalid",
		"Header '%1' is invalid.",
		"Resubmit the request with a valid request header.", name)
}

// TemporarilyUnavailable also sets the header Retry-After (RFC 9110 section
// 10.2.3), to the same number of seconds.
func TemporarilyUnavailable() Message {
	const seconds = 5
	m := base(http.StatusServiceUnavailable, Critical, "ServiceTemporarilyUnavailable",
		"The service is temporarily unavailable.  Retry in %1 seconds.",
		"Wait for the indicated retry duration and retry the operation.", strconv.Itoa(seconds))
	m.RetryAfter = seconds
	return m
}

// Success is the registry's message.
func Success() Message {
	return base(http.StatusOK, OK, "Success",
		"The request completed successfully.",
		"None.")
}

// PropertyDuplicate is the registry's message.
func PropertyDuplicate(name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyDuplicate",
		"The property %1 was duplicated in the request.",
		"Remove the duplicate property from the request body and resubmit the request if the operation failed.", name)
}

// PropertyUnknown is the registry's message.
func PropertyUnknown(name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyUnknown",
		"The property %1 is not in the list of valid properties for the resource.",
		"Remove the unknown property from the request body and resubmit the request if the operation failed.", name)
}

// PropertyNotWritable is the registry's message.
func PropertyNotWritable(name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyNotWritable",
		"The property %1 is a read-only property and cannot be assigned a value.",
		"Remove the property from the request body and resubmit the request if the operation failed.", name)
}

// PropertyMissing is the registry's message.
func PropertyMissing(name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyMissing",
		"The property %1 is a required property and must be included in the request.",
		"Ensure that the property is in the request body and has a valid value and resubmit the request if the operation failed.", name)
}

// PropertyValueTypeError is the registry's message.
func PropertyValueTypeError(value any, name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyValueTypeError",
		"The value '%1' for the property %2 is not a type that the property can accept.",
		"Correct the value for the property in the request body and resubmit the request if the operation failed.", Show(value), name)
}

// PropertyValueFormatError is the registry's message.
func PropertyValueFormatError(value any, name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyValueFormatError",
		"The value '%1' for the property %2 is not a format that the property can accept.",
		"Correct the value for the property in the request body and resubmit the request if the operation failed.", Show(value), name)
}

// PropertyValueNotInList is the registry's message.
func PropertyValueNotInList(value any, name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyValueNotInList",
		"The value '%1' for the property %2 is not in the list of acceptable values.",
		"Choose a value from the enumeration list that the implementation can support and resubmit the request if the operation failed.", Show(value), name)
}

// PropertyValueOutOfRange is the registry's message.
func PropertyValueOutOfRange(value any, name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyValueOutOfRange",
		"The value '%1' for the property %2 is not in the supported range of acceptable values.",
		"Correct the value for the property in the request body and resubmit the request if the operation failed.", Show(value), name)
}

// PropertyValueError is PropertyValueFormatError for a value that must not be shown, such as a password.
func PropertyValueError(name string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyValueError",
		"The value provided for the property %1 is not valid.",
		"Correct the value for the property in the request body and resubmit the request if the operation failed.", name)
}

// PropertyValueConflict is the registry's message.
func PropertyValueConflict(name, other string) Message {
	return base(http.StatusBadRequest, Warning, "PropertyValueConflict",
		"The property '%1' could not be written because its value would conflict with the value of the '%2' property.",
		"None.", name, other)
}

// PropertyValueIncorrect is the registry's message.
func PropertyValueIncorrect(name string, value any) Message {
	return base(http.StatusBadRequest, Warning, "PropertyValueIncorrect",
		"The property '%1' with the requested value of '%2' could not be written because the value is not acceptable for the property.",
		"None.", name, Show(value))
}

// PropertyValueExternalConflict says that something outside of the resource forbids the value now.
func PropertyValueExternalConflict(name string, value any) Message {
	return base(http.StatusConflict, Warning, "PropertyValueExternalConflict",
		"The property '%1' with the requested value of '%2' could not be written because the value is not available due to a configuration conflict.",
		"None.", name, Show(value))
}

// PropertyNotUpdated is the registry's message.
func PropertyNotUpdated(name string) Message {
	return base(http.StatusInternalServerError, Critical, "PropertyNotUpdated",
		"The property %1 was not updated due to an internal service error.  The service is still operational.",
		"Resubmit the request.  If the problem persists, check for additional messages and consider resetting the service.", name)
}

// StringValueTooLong is the registry's message.
func StringValueTooLong(value any, limit int) Message {
	return base(http.StatusBadRequest, Warning, "StringValueTooLong",
		"The string '%1' exceeds the length limit %2.",
		"Resubmit the request with an appropriate string length.", Show(value), strconv.Itoa(limit))
}

// ArraySizeTooLong is the registry's message.
func ArraySizeTooLong(name string, limit int) Message {
	return base(http.StatusBadRequest, Warning, "ArraySizeTooLong",
		"The array provided for property %1 exceeds the size limit %2.",
		"Resubmit the request with an appropriate array size.", name, strconv.Itoa(limit))
}

// ActionNotSupported is the registry's message.
func ActionNotSupported(action string) Message {
	return base(http.StatusBadRequest, Critical, "ActionNotSupported",
		"The action %1 is not supported by the resource.",
		"Check the Actions property in the resource for the supported actions.", action)
}

// ActionParameterMissing is the registry's message.
func ActionParameterMissing(action, name string) Message {
	return base(http.StatusBadRequest, Critical, "ActionParameterMissing",
		"The action %1 requires the parameter %2 to be present in the request body.",
		"Supply the action with the required parameter in the request body when the request is resubmitted.", action, name)
}

// ActionParameterDuplicate is the registry's message.
func ActionParameterDuplicate(action, name string) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterDuplicate",
		"The action %1 was submitted with more than one value for the parameter %2.",
		"Resubmit the action with only one instance of the action parameter in the request body if the operation failed.", action, name)
}

// ActionParameterUnknown is the registry's message.
func ActionParameterUnknown(action, name string) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterUnknown",
		"The action %1 was submitted with the invalid parameter %2.",
		"Correct the invalid action parameter and resubmit the request if the operation failed.", action, name)
}

// ActionParameterNotSupported is the registry's message.
func ActionParameterNotSupported(name, action string) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterNotSupported",
		"The parameter %1 for the action %2 is not supported on the target resource.",
		"Remove the parameter supplied and resubmit the request if the operation failed.", name, action)
}

// ActionParameterValueTypeError is the registry's message.
func ActionParameterValueTypeError(value any, name, action string) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterValueTypeError",
		"The value '%1' for the parameter %2 in the action %3 is not a type that the parameter can accept.",
		"Correct the value for the parameter in the request body and resubmit the request if the operation failed.", Show(value), name, action)
}

// ActionParameterValueFormatError is the registry's message.
func ActionParameterValueFormatError(value any, name, action string) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterValueFormatError",
		"The value '%1' for the parameter %2 in the action %3 is not a format that the parameter can accept.",
		"Correct the value for the parameter in the request body and resubmit the request if the operation failed.", Show(value), name, action)
}

// ActionParameterValueNotInList is the registry's message.
func ActionParameterValueNotInList(value any, name, action string) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterValueNotInList",
		"The value '%1' for the parameter %2 in the action %3 is not in the list of acceptable values.",
		"Choose a value from the enumeration list that the implementation can support and resubmit the request if the operation failed.", Show(value), name, action)
}

// ActionParameterValueOutOfRange is the registry's message.
func ActionParameterValueOutOfRange(value any, name, action string) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterValueOutOfRange",
		"The value '%1' for the parameter %2 in the action %3 is not in the supported range of acceptable values.",
		"Correct the value for the parameter in the request body and resubmit the request if the operation failed.", Show(value), name, action)
}

// ActionParameterValueError is ActionParameterValueFormatError for a value that must not be shown.
func ActionParameterValueError(name, action string) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterValueError",
		"The value for the parameter %1 in the action %2 is invalid.",
		"Correct the value for the parameter in the request body and resubmit the request if the operation failed.", name, action)
}

// ActionParameterValueConflict is the registry's message.
func ActionParameterValueConflict(name string, value any) Message {
	return base(http.StatusBadRequest, Warning, "ActionParameterValueConflict",
		"The parameter '%1' with the requested value of '%2' does not meet the constraints of the implementation.",
		"None.", name, Show(value))
}

// QueryParameterUnsupported is the registry's message.
func QueryParameterUnsupported(name string) Message {
	return base(http.StatusNotImplemented, Warning, "QueryParameterUnsupported",
		"Query parameter '%1' is not supported.",
		"Correct or remove the query parameter and resubmit the request.", name)
}

// QueryParameterValueTypeError is the registry's message.
func QueryParameterValueTypeError(value any, name string) Message {
	return base(http.StatusBadRequest, Warning, "QueryParameterValueTypeError",
		"The value '%1' for the query parameter %2 is not a type that the parameter can accept.",
		"Correct the value for the query parameter in the request and resubmit the request if the operation failed.", Show(value), name)
}

// QueryParameterValueFormatError is the registry's message.
func QueryParameterValueFormatError(value any, name string) Message {
	return base(http.StatusBadRequest, Warning, "QueryParameterValueFormatError",
		"The value '%1' for the parameter %2 is not a format that the parameter can accept.",
		"Correct the value for the query parameter in the request and resubmit the request if the operation failed.", Show(value), name)
}

// QueryParameterValueError is the registry's message.
func QueryParameterValueError(name string) Message {
	return base(http.StatusBadRequest, Warning, "QueryParameterValueError",
		"The value for the parameter %1 is invalid.",
		"Correct the value for the query parameter in the request and resubmit the request if the operation failed.", name)
}

// QueryParameterOutOfRange is the registry's message.
func QueryParameterOutOfRange(value any, name, limits string) Message {
	return base(http.StatusBadRequest, Warning, "QueryParameterOutOfRange",
		"The value '%1' for the query parameter %2 is out of range %3.",
		"Reduce the value for the query parameter to a value that is within range, such as a start or count value that is within bounds of the number of resources in a collection or a page number that is within the range of valid pages.", Show(value), name, limits)
}

// QueryNotSupportedOnResource is the registry's message.
func QueryNotSupportedOnResource() Message {
	return base(http.StatusBadRequest, Warning, "QueryNotSupportedOnResource",
		"Querying is not supported on the requested resource.",
		"Remove the query parameters and resubmit the request if the operation failed.")
}

// QueryNotSupportedOnOperation is the registry's message.
func QueryNotSupportedOnOperation() Message {
	return base(http.StatusBadRequest, Warning, "QueryNotSupportedOnOperation",
		"Querying is not supported with the requested operation.",
		"Remove the query parameters and resubmit the request if the operation failed.")
}

// QueryCombinationInvalid is the registry's message.
func QueryCombinationInvalid() Message {
	return base(http.StatusBadRequest, Warning, "QueryCombinationInvalid",
		"Two or more query parameters in the request cannot be used together.",
		"Remove one or more of the query parameters and resubmit the request if the operation failed.")
}

// SessionLimitExceeded is the registry's message.
func SessionLimitExceeded() Message {
	return base(http.StatusServiceUnavailable, Critical, "SessionLimitExceeded",
		"The session establishment failed due to the number of simultaneous sessions exceeding the limit of the implementation.",
		"Reduce the number of other sessions before trying to establish the session or increase the limit of simultaneous sessions, if supported.")
}

// EventSubscriptionLimitExceeded is the registry's message.
func EventSubscriptionLimitExceeded() Message {
	return base(http.StatusServiceUnavailable, Critical, "EventSubscriptionLimitExceeded",
		"The event subscription failed due to the number of simultaneous subscriptions exceeding the limit of the implementation.",
		"Reduce the number of other subscriptions before trying to establish the event subscription or increase the limit of simultaneous subscriptions, if supported.")
}

// CreateLimitReachedForResource is the registry's message.
func CreateLimitReachedForResource() Message {
	return base(http.StatusConflict, Critical, "CreateLimitReachedForResource",
		"The create operation failed because the resource has reached the limit of possible resources.",
		"Either delete resources and resubmit the request if the operation failed or do not resubmit the request.")
}

// ResourceCannotBeDeleted is the registry's message.
func ResourceCannotBeDeleted() Message {
	return base(http.StatusMethodNotAllowed, Critical, "ResourceCannotBeDeleted",
		"The delete request failed because the resource requested cannot be deleted.",
		"Do not attempt to delete a non-deletable resource.")
}

// ResourceAlreadyExists is the registry's message.
func ResourceAlreadyExists(schema, name string, value any) Message {
	return base(http.StatusConflict, Critical, "ResourceAlreadyExists",
		"The requested resource of type %1 with the property %2 with the value '%3' already exists.",
		"Do not repeat the create operation as the resource was already created.", schema, name, Show(value))
}

// ResourceNotFound is the registry's message.
func ResourceNotFound(schema, id string) Message {
	return base(http.StatusNotFound, Critical, "ResourceNotFound",
		"The requested resource of type %1 named '%2' was not found.",
		"Provide a valid resource identifier and resubmit the request.", schema, id)
}

// ResourceMissingAtURI is the registry's message.
func ResourceMissingAtURI(uri string) Message {
	return base(http.StatusBadRequest, Critical, "ResourceMissingAtURI",
		"The resource at the URI '%1' was not found.",
		"Place a valid resource at the URI or correct the URI and resubmit the request.", uri)
}

// ResourceAtUriUnauthorized is the registry's message.
func ResourceAtUriUnauthorized(uri, reason string) Message {
	return base(http.StatusBadRequest, Critical, "ResourceAtUriUnauthorized",
		"While accessing the resource at '%1', the service received an authorization error '%2'.",
		"Ensure that the appropriate access is provided for the service in order for it to access the URI.", uri, reason)
}

// ResourceAtUriInUnknownFormat is the registry's message.
func ResourceAtUriInUnknownFormat(uri string) Message {
	return base(http.StatusBadRequest, Critical, "ResourceAtUriInUnknownFormat",
		"The resource at '%1' is in a format not recognized by the service.",
		"Place an image or resource or file that is recognized by the service at the URI.", uri)
}

// CouldNotEstablishConnection is the registry's message.
func CouldNotEstablishConnection(uri string) Message {
	return base(http.StatusBadRequest, Critical, "CouldNotEstablishConnection",
		"The service failed to establish a connection with the URI '%1'.",
		"Ensure that the URI contains a valid and reachable node name, protocol information, and other URI components.", uri)
}

// AccessDenied is the registry's message.
func AccessDenied(uri string) Message {
	return base(http.StatusBadRequest, Critical, "AccessDenied",
		"While attempting to establish a connection to '%1', the service denied access.",
		"Attempt to ensure that the URI is correct and that the service has the appropriate credentials.", uri)
}

// SourceDoesNotSupportProtocol is the registry's message.
func SourceDoesNotSupportProtocol(uri, protocol string) Message {
	return base(http.StatusBadRequest, Critical, "SourceDoesNotSupportProtocol",
		"The other end of the connection at '%1' does not support the specified protocol %2.",
		"Change protocols or URIs.", uri, protocol)
}

// ResourceInUse is the registry's message.
func ResourceInUse() Message {
	return base(http.StatusConflict, Warning, "ResourceInUse",
		"The change to the requested resource failed because the resource is in use or in transition.",
		"Remove the condition and resubmit the request if the operation failed.")
}

// ResourceInStandby is the registry's message.
func ResourceInStandby() Message {
	return base(http.StatusConflict, Critical, "ResourceInStandby",
		"The request could not be performed because the resource is in standby.",
		"Ensure that the resource is in the correct power state and resubmit the request.")
}

// ResourceExhaustion is the registry's message.
func ResourceExhaustion(resource string) Message {
	return base(http.StatusServiceUnavailable, Critical, "ResourceExhaustion",
		"The resource '%1' was unable to satisfy the request due to unavailability of resources.",
		"Ensure that the resources are available and resubmit the request.", resource)
}

// InsufficientStorage is the registry's message.
func InsufficientStorage() Message {
	return base(http.StatusInsufficientStorage, Critical, "InsufficientStorage",
		"Insufficient storage or memory available to complete the request.",
		"Increase the free storage space available to the service and resubmit the request.")
}

// InvalidURI is the registry's message.
func InvalidURI(uri string) Message {
	return base(http.StatusNotFound, Critical, "InvalidURI",
		"The URI %1 was not found.",
		"Provide a valid URI and resubmit the request.", uri)
}

// OperationNotAllowed is the registry's message.
func OperationNotAllowed() Message {
	return base(http.StatusMethodNotAllowed, Critical, "OperationNotAllowed",
		"The HTTP method is not allowed on this resource.",
		"None.")
}

// OperationFailed is the registry's message.
func OperationFailed() Message {
	return base(http.StatusBadGateway, Warning, "OperationFailed",
		"An error occurred internal to the service as part of the overall request.  Partial results may have been returned.",
		"Resubmit the request.  If the problem persists, consider resetting the service or provider.")
}

// OperationTimeout is the registry's message.
func OperationTimeout() Message {
	return base(http.StatusInternalServerError, Warning, "OperationTimeout",
		"A timeout internal to the service occurred as part of the request.  Partial results may have been returned.",
		"Resubmit the request.  If the problem persists, consider resetting the service or provider.")
}

// PayloadTooLarge is the registry's message.
func PayloadTooLarge() Message {
	return base(http.StatusRequestEntityTooLarge, Critical, "PayloadTooLarge",
		"The supplied payload exceeds the maximum size supported by the service.",
		"Check that the supplied payload is correct and supported by this service.")
}

// MalformedJSON is the registry's message.
func MalformedJSON() Message {
	return base(http.StatusBadRequest, Critical, "MalformedJSON",
		"The request body submitted was malformed JSON and could not be parsed by the receiving service.",
		"Ensure that the request body is valid JSON and resubmit the request.")
}

// UnrecognizedRequestBody is the registry's message.
func UnrecognizedRequestBody() Message {
	return base(http.StatusBadRequest, Warning, "UnrecognizedRequestBody",
		"The service detected a malformed request body that it was unable to interpret.",
		"Correct the request body and resubmit the request if it failed.")
}

// MissingOrMalformedPart is the registry's message.
func MissingOrMalformedPart() Message {
	return base(http.StatusBadRequest, Critical, "MissingOrMalformedPart",
		"The multipart request contains malformed parts or is missing required parts.",
		"Add any missing required parts or correct the malformed parts and resubmit the request.")
}

// EmptyJSON is the registry's message.
func EmptyJSON() Message {
	return base(http.StatusBadRequest, Warning, "EmptyJSON",
		"The request body submitted contained an empty JSON object and the service is unable to process it.",
		"Add properties in the JSON object and resubmit the request.")
}

// NoOperation is the registry's message.
func NoOperation() Message {
	return base(http.StatusBadRequest, Warning, "NoOperation",
		"The request body submitted contain no data to act upon and no changes to the resource took place.",
		"Add properties in the JSON object and resubmit the request.")
}

// HeaderMissing is the registry's message.
func HeaderMissing(name string) Message {
	return base(http.StatusBadRequest, Critical, "HeaderMissing",
		"Required header '%1' is missing in the request.",
		"Resubmit the request with the required request header.", name)
}

// PreconditionRequired is the registry's message.
func PreconditionRequired() Message {
	return base(http.StatusPreconditionRequired, Critical, "PreconditionRequired",
		"A precondition header or annotation is required to change this resource.",
		"Try the operation again using an If-Match or If-None-Match header and appropriate ETag.")
}

// Unauthorized is the registry's AccessUnauthorized.
func Unauthorized() Message {
	return base(http.StatusUnauthorized, Critical, "AccessUnauthorized",
		"Unauthorized.",
		"Resubmit the request with valid credentials.")
}

// InsufficientPrivilege is the registry's message.
func InsufficientPrivilege() Message {
	return base(http.StatusForbidden, Critical, "InsufficientPrivilege",
		"There are insufficient privileges for the account or credentials associated with the current session to perform the requested operation.",
		"Either abandon the operation or change the associated access rights and resubmit the request if the operation failed.")
}

// NoValidSession is the registry's message.
func NoValidSession() Message {
	return base(http.StatusForbidden, Critical, "NoValidSession",
		"There is no valid session established with the implementation.",
		"Establish a session before attempting any operations.")
}

// RestrictedRole is the registry's message.
func RestrictedRole(role string) Message {
	return base(http.StatusBadRequest, Warning, "RestrictedRole",
		"The operation was not successful because the role '%1' is restricted.",
		"No resolution is required.  For standard roles, consider using the role specified in the AlternateRoleId property in the Role resource.", role)
}

// PasswordChangeRequired names the account whose Password has to be changed first.
func PasswordChangeRequired(uri string) Message {
	return base(http.StatusForbidden, Critical, "PasswordChangeRequired",
		"The password provided for this account must be changed before access is granted.  PATCH the Password property for this account located at the target URI '%1' to complete this process.",
		"Change the password for this account using a PATCH to the Password property at the URI provided.", uri)
}

// PasswordIncorrectLength is the registry's message.
func PasswordIncorrectLength() Message {
	return base(http.StatusBadRequest, Critical, "PasswordIncorrectLength",
		"The password provided for this account does not meet the password length requirements of the service.",
		"Resubmit the request with a password that meets the password length requirements as specified by the `MinPasswordLength` and `MaxPasswordLength` properties in the `AccountService` resource.")
}

// PasswordComplexityNotMet is the registry's message.
func PasswordComplexityNotMet() Message {
	return base(http.StatusBadRequest, Critical, "PasswordComplexityNotMet",
		"The password provided for this account does not meet the password complexity requirements of the service.",
		"Resubmit the request with a password that meets the password complexity requirements as specified by the `PasswordGuidanceMessage` property in the `AccountService` resource.")
}

// AccountModified is the registry's message.
func AccountModified() Message {
	return base(http.StatusOK, OK, "AccountModified",
		"The account was successfully modified.",
		"None.")
}

// PropertyModified is the registry's message.
func PropertyModified() Message {
	return base(http.StatusOK, OK, "PropertyModified",
		"One or more properties were successfully modified.",
		"None.")
}

// PropertyValueModified is the registry's message.
func PropertyValueModified(name string, value any) Message {
	return base(http.StatusOK, Warning, "PropertyValueModified",
		"The property %1 was assigned the value '%2' due to modification by the service.",
		"None.", name, Show(value))
}

// ServiceDisabled is the registry's message.
func ServiceDisabled(uri string) Message {
	return base(http.StatusServiceUnavailable, Warning, "ServiceDisabled",
		"The operation failed because the service at %1 is disabled and cannot accept requests.",
		"Enable the service and resubmit the request if the operation failed.", uri)
}

// EventBufferExceeded is the registry's message.
func EventBufferExceeded() Message {
	return base(http.StatusOK, Warning, "EventBufferExceeded",
		"Undelivered events may have been lost due to exceeding the event buffer.",
		"None.")
}

// InternalError is the registry's message.
func InternalError() Message {
	return base(http.StatusInternalServerError, Critical, "InternalError",
		"The request failed due to an internal service error.  The service is still operational.",
		"Resubmit the request.  If the problem persists, consider resetting the service.")
}

// UndeterminedFault is the registry's message.
func UndeterminedFault(resource string) Message {
	return base(http.StatusInternalServerError, Critical, "UndeterminedFault",
		"An undetermined fault condition was reported by '%1'.",
		"None.", resource)
}
