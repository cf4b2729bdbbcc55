//go:build planted

package antientropy

import (
	"testing"

	"github.com/rondodb/rondo/internal/plant"
	"github.com/rondodb/rondo/internal/plant/planttest"
)

// An exchange goes on beside what is damaged.
func TestPlantedExchangeStopsAtDamage(t *testing.T) {
	planttest.Catches(t, plant.ExchangeStopsAtDamage, damagedExchange)
}
