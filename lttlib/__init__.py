"""Listen to the Teacher!"""
