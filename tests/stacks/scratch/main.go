// Command hello answers with its version, its user and what it may write.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

var version = "unknown"

func hello(w http.ResponseWriter, _ *http.Request) {
	writable := os.WriteFile("/probe", nil, 0o600) == nil
	fmt.Fprintf(w, "version %s, user %d, writable %t\n", version, os.Getuid(), writable)
}

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("/", hello)
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		<-stop.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			log.Print(err)
		}
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}
