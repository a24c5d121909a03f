"""The course around kdlib: feedback for the exercises, studies with stored results, and the demonstration."""
