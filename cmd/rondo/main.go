// Command rondo is the whole of Rondo in one program: the node ("serve", "dev") and the client side (put, get, status, import, bench …).
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}
