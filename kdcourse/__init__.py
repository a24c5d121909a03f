"""The course around kdlib: feedback for the exercises, studies with kept results, the demonstration."""
