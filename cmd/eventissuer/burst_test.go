package main_test

const burstVariable = "EVENTISSUER_TEST_BURST"

func burstClients(string) int { return 0 }
