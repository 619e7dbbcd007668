"""What `make` needs to run lastgood on a bare machine: servers, tools, and the promise to leave nothing running."""
