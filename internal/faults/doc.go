// Package faults breaks clusters of real rondo processes while clients write and read, and has the checkers judge what the clients
// saw: kill -9, pauses, splits, one-way cuts, loss, delay, damaged and full disks. It holds tests only. The long ones run where
// RONDO_FAULTS is set ("make faults", CI) and otherwise skip, loudly. Splits need root, ip and nft; where RONDO_REQUIRE_FAULTS
// is set too, a test that cannot run fails.
//
// That the tests can fail: GOFLAGS=-tags=planted RONDO_PLANT=short-quorum-read make faults gives nodes with a bug of internal/plant.
package faults
