// Package e2e runs real rondo processes on loopback and breaks them: kill -9, SIGSTOP, restarts. It holds tests only. The long
// ones run where RONDO_E2E is set ("make e2e", CI) and otherwise skip, loudly.
package e2e
