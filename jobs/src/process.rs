//! One child process: its secrets, its stderr, its exit.
