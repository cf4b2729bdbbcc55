// Package httpapi is the HTTP/JSON API of one node, for applications and operators: paths, parameters, JSON shapes, problem
// documents, metrics and the OpenAPI document that describes them. It decides nothing about replicas; the coordinator does.
//
// Invariants:
//
//   - no answer is a redirect, and no path is ever cleaned: keys are bytes;
//   - no byte of a value is changed: values are embedded or escaped by this package's own append functions;
//   - what is refused is refused before the body is read, and before any replica is asked;
//   - a context that cannot be opened is an error, never "no context";
//   - memory is bounded by the limits of Config, whatever is sent.
package httpapi
