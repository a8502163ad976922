"""French Novel Tool: takes a PDF novel, gives back its sentences, the long ones made short."""
