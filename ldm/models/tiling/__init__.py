"""The same pictures in less memory: strips and blended patches."""
