package httpapi

import (
	_ "embed"
	"net/http"
)

// openAPI is the OpenAPI document. A test holds it against the router and against real answers.
//
//go:embed openapi.json
var openAPI []byte

// OpenAPI is the OpenAPI 3.1 document of the API. The bytes must not be changed.
func OpenAPI() []byte { return openAPI }

func (x *exchange) openapi() {
	x.json(http.StatusOK)
	x.length(int64(len(openAPI)))
	x.write(openAPI)
}
