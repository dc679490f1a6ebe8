"""Torments a driver and says what it did wrong: `examine` asks the exams, `FINDINGS` lists what they can find."""
