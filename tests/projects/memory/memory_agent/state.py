NAMESPACE = ("facts", "ada")
