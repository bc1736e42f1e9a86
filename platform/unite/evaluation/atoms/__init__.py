"""Chemistry behind the suites of molecules and crystals: drawn and true ones, judged alike."""
