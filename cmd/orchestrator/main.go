// Command orchestrator runs PostgreSQL as a sharded cluster with several coordinators.
package main

func main() {}
