package operations

import "time"

// Type is the type of one of the server's own events.
type Type string

// The types.
const (
	// SubscriptionFailing tells that an endpoint has failed, and only failed, for a good part of the time after which its
	// subscription is disabled. Its data is Failing.
	SubscriptionFailing Type = "no.eventissuer.subscription.failing.v1"
	// SubscriptionDisabled tells that nothing more is sent to an endpoint. Its data is Disabled.
	SubscriptionDisabled Type = "no.eventissuer.subscription.disabled.v1"
)

// Failing is the data of SubscriptionFailing.
type Failing struct {
	Subscription string    `json:"subscription"`
	Owner        string    `json:"owner"`
	Cause        string    `json:"cause,omitempty"` // the reason of the latest failure
	Since        time.Time `json:"since"`           // the first failure after which nothing succeeded
	DisableAt    time.Time `json:"disableAt"`       // unless something succeeds before
	Percent      int       `json:"percent"`         // of the time from since to disableAt that is over
}

// Disabled is the data of SubscriptionDisabled.
type Disabled struct {
	Subscription string    `json:"subscription"`
	Owner        string    `json:"owner"`
	Cause        string    `json:"cause,omitempty"` // the reason of the latest failure, or what the endpoint answered
	Since        time.Time `json:"since,omitzero"`  // the first failure after which nothing succeeded; zero: it was not for failing
}

// kind is a type as it is registered.
type kind struct {
	name                         Type
	description, schema, example string
}

func kinds() []kind {
	return []kind{
		{
			SubscriptionFailing,
			"An endpoint has failed, and only failed, for 50, 70 or 90 percent of the time after which its subscription is disabled.",
			`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "subscription": {"type": "string", "description": "The subscription's id."},
    "owner": {"type": "string"},
    "cause": {"type": "string", "description": "Why the latest delivery failed."},
    "since": {"type": "string", "format": "date-time", "description": "When the first delivery failed after which none succeeded."},
    "disableAt": {"type": "string", "format": "date-time", "description": "When the subscription is disabled unless a delivery succeeds before."},
    "percent": {"type": "integer", "minimum": 0, "maximum": 100, "description": "How much of the time from since to disableAt is over."}
  },
  "required": ["subscription", "owner", "since", "disableAt", "percent"]
}`,
			`{"subscription":"0f3c","owner":"acme","cause":"the endpoint answered 503 Service Unavailable","since":"2026-03-01T12:00:00Z","disableAt":"2026-03-06T12:00:00Z","percent":50}`,
		},
		{
			SubscriptionDisabled,
			"Nothing is sent to an endpoint any more until its subscription is resumed: it has failed, and only failed, for too long, or has answered that it is gone.",
			`{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "subscription": {"type": "string", "description": "The subscription's id."},
    "owner": {"type": "string"},
    "cause": {"type": "string", "description": "Why the latest delivery failed, or what the endpoint answered."},
    "since": {"type": "string", "format": "date-time", "description": "When the first delivery failed after which none succeeded. Not there where it was not for failing."}
  },
  "required": ["subscription", "owner"]
}`,
			`{"subscription":"0f3c","owner":"acme","cause":"the endpoint answered 503 Service Unavailable","since":"2026-03-01T12:00:00Z"}`,
		},
	}
}
