// Command pause holds a Pod's namespaces until it is told to stop, and is all that the sandbox
// image of the test nodes contains.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
